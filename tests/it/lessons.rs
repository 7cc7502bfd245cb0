//! How other pools and proxies broke, by the numbers of a list that was drawn from their issue
//! trackers: one test or more for each.
//!
//! | lesson | tests |
//! |---|---|
//! | 1 half a request | [`requests::half_a_request_ends_with_its_connection`], `session_pool::everyone_gets_the_answer_to_the_own_question` |
//! | 2 no connection within a pipeline | `session_pool::no_free_connection_is_one_error_and_one_ready` |
//! | 3 Flush without Sync | [`requests::flush_keeps_the_connection_and_sync_commits`] |
//! | 4 fragmentation | `session_same::answers_are_the_same_byte_by_byte`, `…_in_odd_pieces` |
//! | 5 what follows an error | [`requests::an_error_is_told_at_once_and_the_rest_is_skipped_to_sync`] |
//! | 6 a late cancel | `session_cancel`: all four |
//! | 7 a failed Parse | [`statements::a_failed_parse_leaves_no_name`] |
//! | 8 a reset in a pipeline | [`statements::a_statement_behind_a_reset_in_its_pipeline_survives`] |
//! | 9 Describe elsewhere | [`statements::describe_on_another_connection`], [`statements::describe_of_a_deferred_begin`] |
//! | 10 whose name | [`statements::names_are_private`], [`statements::one_text_with_other_types_or_another_path`], [`statements::two_proxies_share_a_database`], `session_state::statements_survive_eviction_and_a_change_of_connection` |
//! | 11 nested settings | [`state::settings_are_what_postgresql_says`], [`state::roles_follow_and_leave_with_their_session`] |
//! | 12 LISTEN | [`state::channels_are_of_one_database`] |
//! | 13 what is a write | [`routes::what_may_write_runs_on_the_primary`] |
//! | 20 state between queries | [`routes::each_statement_of_a_pipeline_keeps_its_description`] |
//! | 23 a route after an error | [`routes::an_error_leaves_neither_connection_nor_route`] |
//! | 24 a client that vanishes | `session_pool::a_client_that_vanishes_…`, `…_a_huge_row_…`, `…_copying_in_with_notices_…`, `torture` |

mod requests;
mod routes;
mod state;
mod statements;
