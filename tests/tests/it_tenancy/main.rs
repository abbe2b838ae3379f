//! Tenancy (issue: the doors): whoever is bound to tenants neither reads nor writes another's, finds
//! no difference between a foreign id and none, and the database itself sees to it as well.

mod catalogue;
mod logins;
mod plans;
mod roles;
mod statements;
mod store_walk;
mod strangers;
mod walk;
