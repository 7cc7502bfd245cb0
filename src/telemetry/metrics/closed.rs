//! Why a connection to a server was closed: the closed set of values of the label `reason`.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $label:literal;)*) => {
        /// Why a connection to a server was closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Closed {
            $($(#[doc = $doc])* $name,)*
        }

        impl Closed {
            /// Every reason.
            pub const ALL: &[Closed] = &[$(Closed::$name),*];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Closed::$name => $label,)*
                }
            }
        }
    };
}

reasons! {
    /// The server closed it, or spoke unasked, while it rested.
    ServerClosed = "server_closed";
    /// It did not answer `server_check_query`.
    CheckFailed = "check_failed";
    /// It was older than `server_lifetime`.
    Lifetime = "lifetime";
    /// It rested longer than `server_idle_timeout`.
    Idle = "idle";
    /// It came back when nobody waited, and was one of the reserve.
    Surplus = "surplus";
    /// Another pool needed its place under `max_db_connections` or `max_user_connections`.
    Evicted = "evicted";
    /// Its server left the configuration.
    PoolClosed = "pool_closed";
    /// It was to be a primary's, and its server was in recovery.
    InRecovery = "in_recovery";
    /// It broke, or the server broke the protocol, while a session had it.
    ServerLost = "server_lost";
    /// The session's settings or its transaction could not be brought to it.
    SetupFailed = "setup_failed";
    /// Its client left, or was disconnected, before the transaction ended.
    ClientLeft = "client_left";
    /// A session's own state was on it, which could not be cleared.
    Pinned = "pinned";
    /// It is not certain which prepared statements it has: the batch that was to change them failed.
    StatementsUnknown = "statements_unknown";
    /// It was given back with something unfinished on it.
    Dirty = "dirty";
    /// The session that had it was cut off without a word.
    Abandoned = "abandoned";
}
