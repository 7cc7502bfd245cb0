//! PostgreSQL's own functions by what they may do.
//!
//! From the catalog of PostgreSQL 15, without those that only implement operators and types.
//! What is in no list is unknown: it may write, lock or read any table.

/// What a function may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Immutable or stable, one value or set from one row.
    Scalar,
    /// An aggregate.
    Aggregate,
    /// A window function.
    Window,
    /// Known, but volatile: it may write, lock, or answer differently on a replica.
    Volatile,
    /// Not PostgreSQL's own, as far as pgdrover knows.
    Unknown,
}

/// The class of an unqualified, folded function name.
pub(super) fn class(name: &str) -> Class {
    let listed = |names: &str| names.split(' ').any(|n| n == name);
    if listed(SCALAR) {
        Class::Scalar
    } else if listed(AGGREGATE) {
        Class::Aggregate
    } else if listed(WINDOW) {
        Class::Window
    } else if listed(VOLATILE) {
        Class::Volatile
    } else {
        Class::Unknown
    }
}

/// Immutable and stable functions, and forms that the grammar writes as functions.
const SCALAR: &str = "\
abbrev abs acos acosd acosh age area array array_append array_dims array_fill array_length \
array_lower array_ndims array_position array_positions array_prepend array_remove \
array_replace array_sort array_to_json array_to_string array_to_tsvector array_upper ascii \
asin asind asinh atan atan2 atan2d atand atanh bit bit_count bit_length bool bound_box box \
bpchar broadcast btrim cardinality cash_words cast cbrt ceil ceiling center char \
char_length character_length chr cidr circle coalesce col_description concat concat_ws \
convert convert_from convert_to cos cosd cosh cot cotd current_catalog current_database \
current_date current_role current_schema current_schemas current_setting current_time \
current_timestamp current_user date date_add date_bin date_part date_subtract date_trunc \
datemultirange daterange decode degrees dexp diagonal diameter div encode enum_first \
enum_last enum_range erf erfc exp extract factorial family float4 float8 floor format \
format_type gcd generate_series generate_subscripts get_bit get_byte get_current_ts_config \
getdatabaseencoding greatest grouping has_any_column_privilege has_column_privilege \
has_database_privilege has_foreign_data_wrapper_privilege has_function_privilege \
has_language_privilege has_parameter_privilege has_schema_privilege has_sequence_privilege \
has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege \
height host hostmask inet_client_addr inet_client_port inet_merge inet_same_family \
inet_server_addr inet_server_port initcap int2 int4 int4multirange int4range int8 \
int8multirange int8range interval is_normalized isclosed isempty isfinite ishorizontal \
isopen isparallel isperp isvertical json json_array_elements json_array_elements_text \
json_array_length json_build_array json_build_object json_each json_each_text json_exists \
json_extract_path json_extract_path_text json_object json_object_keys json_populate_record \
json_populate_recordset json_query json_scalar json_serialize json_strip_nulls \
json_to_record json_to_recordset json_to_tsvector json_typeof json_value \
jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array \
jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text \
jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz \
jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array \
jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz \
jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set \
jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_to_tsvector \
jsonb_typeof justify_days justify_hours justify_interval lcm least left length like \
like_escape line ln localtime localtimestamp log log10 lower lower_inc lower_inf lpad lseg \
ltrim macaddr macaddr8 macaddr8_set7bit make_date make_interval make_time make_timestamp \
make_timestamptz masklen md5 min_scale mod money multirange mxid_age name netmask network \
normalize notlike now npoints nullif num_nonnulls num_nulls numeric nummultirange numnode \
numrange obj_description octet_length oid overlaps overlay parse_ident path pg_backend_pid \
pg_char_to_encoding pg_client_encoding pg_collation_for pg_column_size pg_conf_load_time \
pg_encoding_to_char pg_function_is_visible pg_get_constraintdef pg_get_expr \
pg_get_indexdef pg_get_keywords pg_get_serial_sequence pg_get_userbyid pg_get_viewdef \
pg_has_role pg_postmaster_start_time pg_size_bytes pg_size_pretty pg_table_is_visible \
pg_timezone_abbrevs pg_timezone_names pg_trigger_depth pg_type_is_visible pg_typeof \
phraseto_tsquery pi plainto_tsquery point polygon position pow power querytree quote_ident \
quote_literal quote_nullable radians radius range_merge regclass regexp_count regexp_instr \
regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array \
regexp_split_to_table regexp_substr repeat replace reverse right round row row_to_json \
rpad rtrim scale session_user set_bit set_byte set_masklen setweight sha224 sha256 sha384 \
sha512 shobj_description sign similar_escape sin sind sinh slope split_part sqrt \
starts_with statement_timestamp string_to_array string_to_table strip strpos substr \
substring tan tand tanh text textlen time timestamp timestamptz timetz timezone to_ascii \
to_bin to_char to_date to_hex to_json to_jsonb to_number to_oct to_regclass \
to_regcollation to_regnamespace to_regoper to_regoperator to_regproc to_regprocedure \
to_regrole to_regtype to_timestamp to_tsquery to_tsvector transaction_timestamp translate \
treat trim_array trim_scale trunc ts_debug ts_delete ts_filter ts_headline ts_lexize \
ts_parse ts_rank ts_rank_cd ts_token_type tsmultirange tsrange tstzmultirange tstzrange \
tsvector_to_array unistr unnest upper upper_inc upper_inf user varbit varchar version \
websearch_to_tsquery width width_bucket xid xml xml_is_well_formed \
xml_is_well_formed_content xml_is_well_formed_document xmlcomment xmlconcat xmlelement \
xmlexists xmlforest xmlparse xmlpi xmlroot xmlserialize xmlvalidate xpath xpath_exists";

/// Aggregates, those with WITHIN GROUP included.
const AGGREGATE: &str = "\
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop \
covar_samp every json_agg json_arrayagg json_object_agg json_objectagg jsonb_agg \
jsonb_object_agg max min mode percentile_cont percentile_disc range_agg \
range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope \
regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp \
variance xmlagg";

/// Window functions.
const WINDOW: &str = "\
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank \
row_number";

/// Volatile functions.
const VOLATILE: &str = "\
amvalidate array_sample array_shuffle brin_desummarize_range brin_summarize_new_values \
brin_summarize_range clock_timestamp current_query currval gen_random_bytes \
gen_random_uuid gen_salt gin_clean_pending_list lastval lo_close lo_creat lo_create \
lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64 lo_open lo_put lo_tell \
lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite nextval pg_advisory_lock \
pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all \
pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared \
pg_available_extension_versions pg_available_extensions pg_backup_start pg_backup_stop \
pg_blocking_pids pg_cancel_backend pg_collation_actual_version pg_collation_is_visible \
pg_column_compression pg_column_is_updatable pg_config pg_control_checkpoint \
pg_control_init pg_control_recovery pg_control_system pg_conversion_is_visible \
pg_copy_logical_replication_slot pg_copy_physical_replication_slot \
pg_create_logical_replication_slot pg_create_physical_replication_slot \
pg_create_restore_point pg_current_logfile pg_current_snapshot \
pg_database_collation_actual_version pg_database_size pg_describe_object \
pg_drop_replication_slot pg_encoding_max_length pg_extension_config_dump \
pg_extension_update_paths pg_filenode_relation pg_get_backend_memory_contexts \
pg_get_catalog_foreign_keys pg_get_function_arg_default pg_get_function_arguments \
pg_get_function_identity_arguments pg_get_function_result pg_get_function_sqlbody \
pg_get_functiondef pg_get_multixact_members pg_get_object_address \
pg_get_partition_constraintdef pg_get_partkeydef pg_get_publication_tables pg_get_ruledef \
pg_get_shmem_allocations pg_get_statisticsobjdef pg_get_statisticsobjdef_columns \
pg_get_statisticsobjdef_expressions pg_get_triggerdef pg_hba_file_rules \
pg_ident_file_mappings pg_identify_object pg_identify_object_as_address \
pg_import_system_collations pg_index_column_has_property pg_index_has_property \
pg_indexam_has_property pg_indexam_progress_phasename pg_indexes_size pg_is_in_recovery \
pg_is_other_temp_schema pg_jit_available pg_listening_channels pg_lock_status \
pg_log_backend_memory_contexts pg_logical_emit_message pg_logical_slot_get_binary_changes \
pg_logical_slot_get_changes pg_logical_slot_peek_binary_changes \
pg_logical_slot_peek_changes pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir \
pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_tmpdir pg_ls_waldir \
pg_lsn pg_my_temp_schema pg_notification_queue_usage pg_notify pg_opclass_is_visible \
pg_operator_is_visible pg_opfamily_is_visible pg_options_to_table pg_partition_ancestors \
pg_partition_root pg_partition_tree pg_prepared_xact pg_promote pg_read_binary_file \
pg_read_file pg_relation_filenode pg_relation_filepath pg_relation_is_publishable \
pg_relation_is_updatable pg_relation_size pg_reload_conf pg_replication_origin_advance \
pg_replication_origin_create pg_replication_origin_drop pg_replication_origin_oid \
pg_replication_origin_progress pg_replication_origin_session_is_setup \
pg_replication_origin_session_progress pg_replication_origin_session_reset \
pg_replication_origin_session_setup pg_replication_origin_xact_reset \
pg_replication_origin_xact_setup pg_replication_slot_advance pg_rotate_logfile \
pg_safe_snapshot_blocking_pids pg_sequence_parameters pg_settings_get_flags \
pg_show_all_file_settings pg_show_all_settings pg_show_replication_origin_status pg_sleep \
pg_sleep_for pg_sleep_until pg_statistics_obj_is_visible pg_stop_making_pinned_objects \
pg_switch_wal pg_table_size pg_tablespace_databases pg_tablespace_location \
pg_tablespace_size pg_terminate_backend pg_total_relation_size pg_try_advisory_lock \
pg_try_advisory_lock_shared pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared \
pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible \
pg_ts_template_is_visible pg_xact_commit_timestamp pg_xact_commit_timestamp_origin \
pg_xact_status random random_normal set_config setseed setval timeofday ts_rewrite \
uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7";
