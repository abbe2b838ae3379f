//! PixelHub's own addresses, end to end: the answers that its pages know, without the holes that it had; and
//! the switches by which a module moves to Posto and back.

#[path = "../it_doors_guarded/door.rs"]
mod door;

mod chat;
mod orders;
mod passed_on;
mod rig;
mod shadow;
mod strangers;
mod tenants;
