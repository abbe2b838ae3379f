//! Who may come in: keys made, rotated and revoked.

mod door;
mod keys;
