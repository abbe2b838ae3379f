//! The doors, end to end: what an authentic sender brings is stored, known by its own identity, and
//! explained.

mod asaas;
mod asaas_answers;
mod described;
mod media;
mod owners;
mod signed;
mod standards;
mod upgrades;
mod whapi;
