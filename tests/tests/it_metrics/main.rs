//! What Posto tells about itself: the metrics of each process, the ledger, and a real Prometheus
//! with our rules that scrapes them.

mod ledger;
mod metrics;
mod prometheus;
mod walk;
