//! What a server connection still owes us.
//!
//! Every message sent to a server that is answered adds an entry; every answer settles one. An
//! empty ledger together with ReadyForQuery(idle) is the proof, and the only one, that a
//! connection can go to another client. The ledger also says which answers are the client's and
//! which belong to messages that pgdrover wove in.
//!
//! ```text
//! Parse 1   Bind 2   Close 3   Describe (t) T|n   Execute D* C|I|s   Sync Z   Query …* Z
//! an error settles everything up to, and without, the next Sync (or the Query's own Z)
//! ```

use std::collections::VecDeque;

/// A prepared statement's number, the same on all servers of a pgdrover.
pub type StatementId = u64;

/// A message sent, by what answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Parse; the statement that exists on the server once it succeeded.
    Parse(Option<StatementId>),
    /// Bind.
    Bind,
    /// Close of a portal or statement.
    Close,
    /// Describe of a statement or portal.
    Describe,
    /// Execute.
    Execute,
    /// Sync.
    Sync,
    /// Query or FunctionCall: up to its ReadyForQuery.
    Query,
    /// A Query of pgdrover whose answer, error included, concerns nobody.
    Quiet,
}

/// An answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    sent: Sent,
    /// Whether the client sent it, and so must see the answer.
    for_client: bool,
}

/// Entries of the queue: an answer of the server, or one that pgdrover gives in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Due(Due),
    /// `1` or `3`, for a Parse or Close of the client that was not sent.
    Owed(u8),
}

/// What to do with a frame of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Relay it.
    Forward,
    /// Keep it from the client.
    Swallow,
    /// The server says something that nothing was owed for.
    Unexpected,
}

/// What became of the connection's own state by a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing to remember.
    None,
    /// The statement now exists on the server.
    Parsed(StatementId),
    /// An answer was settled with an error.
    Failed {
        /// The Query that failed was pgdrover's own, sent ahead of the client's messages: what the
        /// client sent after it must not count. (A woven-in Parse that fails is the statement's own
        /// failure: the server skips what follows, and the client is told why.)
        internal: bool,
    },
}

/// The queue of answers due. See the module's text.
#[derive(Debug, Default)]
pub struct Ledger {
    queue: VecDeque<Entry>,
    /// The server waits for CopyData from us.
    copy_in: bool,
    /// How many messages of the client's batches were answered without an error, since last asked.
    answered: usize,
    /// A Sync of the client was lost in a COPY, since last asked.
    lost_sync: bool,
}

impl Ledger {
    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the server waits for CopyData.
    pub fn copy_in(&self) -> bool {
        self.copy_in
    }

    /// CopyDone or CopyFail was sent. Returns whether the answer needs a Flush to be sent: in the
    /// extended protocol the server keeps it until then.
    pub fn end_copy_in(&mut self) -> bool {
        self.copy_in = false;
        matches!(
            self.queue.front(),
            Some(Entry::Due(Due {
                sent: Sent::Execute,
                ..
            }))
        )
    }

    /// How many messages of the client's batches, Sync not among them, were answered with success
    /// since this was last asked.
    pub fn take_answered(&mut self) -> usize {
        std::mem::take(&mut self.answered)
    }

    /// Whether a Sync of the client went unanswered because a COPY began before it (the client
    /// sends another one after CopyDone), since this was last asked.
    pub fn take_lost_sync(&mut self) -> bool {
        std::mem::take(&mut self.lost_sync)
    }

    /// Whether the server owes nothing, though pgdrover may.
    pub fn is_silent(&self) -> bool {
        self.queue.iter().all(|e| matches!(e, Entry::Owed(_)))
    }

    /// Notes a message that was queued for the server.
    pub fn sent(&mut self, sent: Sent, for_client: bool) {
        self.queue.push_back(Entry::Due(Due { sent, for_client }));
    }

    /// Notes that the client must see an empty message of this tag (ParseComplete `1`,
    /// CloseComplete `3`) at this place, though nothing was sent.
    pub fn owe(&mut self, tag: u8) {
        self.queue.push_back(Entry::Owed(tag));
    }

    /// Whether pgdrover itself must answer next.
    pub fn owes(&self) -> bool {
        matches!(self.queue.front(), Some(Entry::Owed(_)))
    }

    /// Takes what is owed at the front. To be asked until `None` before and after each frame, and
    /// before any only if [`Ledger::is_silent`]: as long as nothing came back from the server, the
    /// client must not have got an answer either.
    pub fn take_owed(&mut self) -> Option<u8> {
        let Some(Entry::Owed(tag)) = self.queue.front() else {
            return None;
        };
        let tag = *tag;
        self.queue.pop_front();
        self.answered += 1;
        Some(tag)
    }

    /// Settles a frame that the server sent.
    pub fn received(&mut self, tag: u8) -> (Verdict, Note) {
        // Notice, ParameterStatus and Notification come at any time and settle nothing.
        let Some(Entry::Due(front)) = self.queue.front().copied() else {
            let verdict = match tag {
                b'N' | b'S' | b'A' | b'E' => Verdict::Forward,
                _ => Verdict::Unexpected,
            };
            return (verdict, Note::None);
        };
        let verdict = if front.for_client {
            Verdict::Forward
        } else {
            Verdict::Swallow
        };
        match tag {
            // What a client listens to may come while pgdrover's own messages are under way.
            b'A' => return (Verdict::Forward, Note::None),
            b'N' | b'S' => return (verdict, Note::None),
            b'E' => {
                self.copy_in = false;
                self.fail(front);
                // The client learns why its statement failed even if a woven-in message did.
                return (
                    Verdict::Forward,
                    Note::Failed {
                        internal: !front.for_client && front.sent == Sent::Query,
                    },
                );
            }
            b'G' => self.begin_copy_in(front),
            _ => {}
        }
        let mut note = Note::None;
        let (fits, settled) = match (front.sent, tag) {
            (Sent::Parse(id), b'1') => {
                note = id.map_or(Note::None, Note::Parsed);
                (true, true)
            }
            (Sent::Bind, b'2') | (Sent::Close, b'3') => (true, true),
            (Sent::Describe, b't') => (true, false),
            (Sent::Describe, b'T' | b'n') => (true, true),
            (Sent::Execute, b'C' | b'I' | b's') => (true, true),
            (Sent::Execute, b'D' | b'G' | b'H' | b'W' | b'd' | b'c') => (true, false),
            (Sent::Sync | Sent::Query | Sent::Quiet, b'Z') => (true, true),
            (
                Sent::Query | Sent::Quiet,
                b'T' | b'D' | b'C' | b'I' | b'G' | b'H' | b'W' | b'd' | b'c' | b'V',
            ) => (true, false),
            _ => (false, false),
        };
        if !fits {
            return (Verdict::Unexpected, Note::None);
        }
        if matches!(tag, b'C' | b'Z') {
            self.copy_in = false;
        }
        if settled {
            self.queue.pop_front();
            let ends = matches!(front.sent, Sent::Sync | Sent::Query | Sent::Quiet);
            self.answered += usize::from(front.for_client && !ends);
        }
        (verdict, note)
    }

    /// While it waits for CopyData the server ignores every Sync, so those sent behind the Execute
    /// are lost: the client sends another after CopyDone (55.2.6).
    fn begin_copy_in(&mut self, front: Due) {
        self.copy_in = true;
        if front.sent == Sent::Execute {
            let sync = |e: &Entry| {
                let Entry::Due(due) = e else { return false };
                due.sent == Sent::Sync && due.for_client
            };
            self.lost_sync |= self.queue.iter().any(sync);
            self.queue.truncate(1);
        }
    }

    /// After an error the server skips to the next Sync; a Query still ends with its own Z.
    fn fail(&mut self, front: Due) {
        if matches!(front.sent, Sent::Query | Sent::Quiet) {
            return;
        }
        while let Some(entry) = self.queue.front() {
            if let Entry::Due(Due {
                sent: Sent::Sync, ..
            }) = entry
            {
                return;
            }
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ledger: &mut Ledger, tags: &[u8]) -> Vec<Verdict> {
        tags.iter().map(|t| ledger.received(*t).0).collect()
    }

    #[test]
    fn an_extended_batch_settles_message_by_message() {
        let mut l = Ledger::default();
        for s in [
            Sent::Parse(None),
            Sent::Bind,
            Sent::Describe,
            Sent::Execute,
            Sent::Sync,
        ] {
            l.sent(s, true);
        }
        assert!(
            run(&mut l, b"12TDDCZ")
                .iter()
                .all(|v| *v == Verdict::Forward)
        );
        assert!(l.is_empty());
    }

    #[test]
    fn woven_in_messages_stay_hidden_and_their_success_is_noted() {
        let mut l = Ledger::default();
        l.sent(Sent::Query, false);
        l.sent(Sent::Parse(Some(7)), false);
        l.sent(Sent::Bind, true);
        l.sent(Sent::Execute, true);
        l.sent(Sent::Sync, true);
        assert_eq!(run(&mut l, b"CSZ"), [Verdict::Swallow; 3]);
        assert_eq!(l.received(b'1'), (Verdict::Swallow, Note::Parsed(7)));
        assert_eq!(run(&mut l, b"2CZ"), [Verdict::Forward; 3]);
        assert!(l.is_empty());
    }

    #[test]
    fn only_a_query_of_pgdrovers_own_fails_for_itself() {
        let cases = [
            (Sent::Query, true),
            (Sent::Parse(Some(1)), false),
            (Sent::Quiet, false),
        ];
        for (sent, internal) in cases {
            let mut l = Ledger::default();
            l.sent(sent, false);
            assert_eq!(l.received(b'E').1, Note::Failed { internal });
        }
    }

    #[test]
    fn an_error_skips_to_sync_and_no_further() {
        let mut l = Ledger::default();
        for s in [
            Sent::Parse(Some(1)),
            Sent::Bind,
            Sent::Execute,
            Sent::Sync,
            Sent::Bind,
        ] {
            l.sent(s, true);
        }
        assert_eq!(l.received(b'1').1, Note::Parsed(1));
        assert_eq!(l.received(b'E').1, Note::Failed { internal: false });
        assert_eq!(l.take_answered(), 1);
        assert_eq!(l.received(b'2').0, Verdict::Unexpected);
        assert_eq!(l.received(b'Z').0, Verdict::Forward);
        assert!(!l.is_empty());
        assert_eq!(l.received(b'2').0, Verdict::Forward);
        assert!(l.is_empty());
    }

    #[test]
    fn a_failed_query_still_owes_ready_for_query() {
        let mut l = Ledger::default();
        l.sent(Sent::Query, true);
        assert_eq!(run(&mut l, b"TDE"), [Verdict::Forward; 3]);
        assert!(!l.is_empty());
        l.received(b'Z');
        assert!(l.is_empty());
    }

    #[test]
    fn copy_in_is_open_from_its_response_to_its_end() {
        for end in [b'C', b'E'] {
            let mut l = Ledger::default();
            l.sent(Sent::Query, true);
            l.received(b'G');
            assert!(l.copy_in());
            l.received(end);
            assert!(!l.copy_in());
        }
    }

    #[test]
    fn a_sync_behind_an_execute_that_copies_in_is_ignored_by_the_server() {
        let mut l = Ledger::default();
        l.sent(Sent::Execute, true);
        l.sent(Sent::Sync, true);
        l.received(b'G');
        assert!(l.take_lost_sync());
        assert!(l.end_copy_in(), "the answer waits for a Flush");
        l.received(b'C');
        assert!(l.is_empty());
        l.sent(Sent::Sync, true);
        assert_eq!(l.received(b'Z').0, Verdict::Forward);
    }

    #[test]
    fn an_owed_parse_complete_waits_for_its_turn() {
        let mut l = Ledger::default();
        l.sent(Sent::Close, true);
        l.owe(b'1');
        l.sent(Sent::Sync, true);
        assert_eq!(l.take_owed(), None);
        l.received(b'3');
        assert_eq!(l.take_owed(), Some(b'1'));
        assert_eq!(l.take_owed(), None);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_unexpected() {
        let mut l = Ledger::default();
        assert_eq!(l.received(b'D').0, Verdict::Unexpected);
        l.sent(Sent::Bind, true);
        assert_eq!(l.received(b'1').0, Verdict::Unexpected);
    }
}
