//! Frames of the PostgreSQL protocol (PostgreSQL documentation, chapter 55).
//!
//! The data path relays raw frames: it reads headers and looks inside a message only where
//! routing needs it. Decoding into message types is left to the edges (startup, authentication,
//! and what pgdrover itself says).

mod buffer;
mod certificate;
mod encode;
mod frame;
#[cfg(test)]
mod fuzz;
mod port;
pub mod scram;
mod stream;
mod tls;

pub use buffer::Buffer;
pub use encode::{
    authentication, backend_key_data, bind_renamed, close_statement, command_complete,
    describe_statement, empty_message, error_response, execute, negotiate_version, notice,
    parameter_description, parameter_status, parse, query, ready_for_query, row_description_text,
    text_row,
};
pub use frame::{
    BindView, FrameError, Header, MAX_FRAME, ParseView, cstr, error_fields, first_cstr, frame_at,
};
pub use port::{Fill, Port};
pub use stream::Stream;
pub use tls::{ServerTls, TlsError, client_config};
