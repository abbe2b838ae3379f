//! Who may come in: with which keys, from where, and how much of it.

mod door;
mod guard;
mod keys;
