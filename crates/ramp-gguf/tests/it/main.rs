//! The container through its public interface. One binary, one module per concept.

mod bytes;
mod corpus;
mod malformed;
mod nano;
mod round_trip;
mod split;
mod view;
mod writer;
