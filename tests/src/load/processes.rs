//! What processes cost: CPU time and memory, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

/// A process to watch.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The name it is shown by; several of one name are shown as one.
    pub name: &'static str,
    /// Its pid.
    pub pid: u32,
    /// Whether the processes that it started are a part of it.
    pub tree: bool,
    /// Whether it is part of what is measured.
    pub counted: bool,
}

/// What the processes of one name cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time, user and system, in seconds.
    pub cpu_s: f64,
    /// The same for one event, in microseconds.
    pub cpu_us_per_event: f64,
    /// The most memory that one process of this name had resident, in MiB; of PostgreSQL the most
    /// that the whole tree had, what it shares counted once.
    pub peak_mib: f64,
    /// What it had resident after each quarter of the events, in MiB.
    pub quarters_mib: Vec<f64>,
    /// Whether it is part of what is measured.
    pub counted: bool,
}

/// Watches processes over a run.
#[derive(Debug)]
pub struct Watch {
    watched: Vec<Watched>,
    begun: Vec<f64>,
    quarters: BTreeMap<&'static str, Vec<f64>>,
    peaks: BTreeMap<&'static str, f64>,
}

impl Watch {
    /// Begins to count.
    #[must_use]
    pub fn begin(watched: Vec<Watched>) -> Self {
        let begun = watched.iter().map(Watched::cpu_s).collect();
        Self {
            watched,
            begun,
            quarters: BTreeMap::new(),
            peaks: BTreeMap::new(),
        }
    }

    /// Counts another process from its beginning.
    pub fn add(&mut self, watched: Watched) {
        self.watched.push(watched);
        self.begun.push(0.0);
    }

    /// Looks at the memory now; `quarter` says that a quarter of the events is done.
    pub fn look(&mut self, quarter: bool) {
        let mut now: BTreeMap<&'static str, f64> = BTreeMap::new();
        for it in &self.watched {
            let resident = it.resident_mib();
            let most = now.entry(it.name).or_default();
            *most = most.max(resident);
        }
        for (name, resident) in now {
            let peak = self.peaks.entry(name).or_default();
            *peak = peak.max(resident);
            if quarter {
                self.quarters.entry(name).or_default().push(resident);
            }
        }
    }

    /// What it cost, by name.
    #[must_use]
    pub fn end(mut self, events: u64) -> BTreeMap<String, Cost> {
        self.look(false);
        let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
        for (it, begun) in self.watched.iter().zip(&self.begun) {
            let cost = costs.entry(it.name.to_owned()).or_default();
            cost.cpu_s += it.cpu_s() - begun;
            cost.counted = it.counted;
            cost.peak_mib = self.peaks.get(it.name).copied().unwrap_or_default();
            // The kernel's own record misses no moment; it is there for single processes.
            if let Some(record) = status_mib(it.pid, "VmHWM:").filter(|_| !it.tree) {
                cost.peak_mib = cost.peak_mib.max(record);
            }
            cost.quarters_mib = self.quarters.get(it.name).cloned().unwrap_or_default();
        }
        for cost in costs.values_mut() {
            #[expect(
                clippy::cast_precision_loss,
                reason = "runs have far fewer than 2^52 events"
            )]
            let events = events.max(1) as f64;
            cost.cpu_us_per_event = cost.cpu_s * 1e6 / events;
        }
        costs
    }
}

impl Watched {
    fn cpu_s(&self) -> f64 {
        if self.tree {
            tree_cpu_s(self.pid)
        } else {
            seconds(cpu_ticks(self.pid, OWN).unwrap_or_default())
        }
    }

    fn resident_mib(&self) -> f64 {
        if self.tree {
            resident_mib(self.pid)
        } else {
            status_mib(self.pid, "VmRSS:").unwrap_or_default()
        }
    }
}

/// Fields of `/proc/<pid>/stat` after the name: user and system time (proc(5), 14 and 15).
const OWN: std::ops::Range<usize> = 11..13;
/// The same, and those of children that were waited for (16 and 17).
const WITH_DEAD: std::ops::Range<usize> = 11..15;

/// CPU of a tree: what runs now, and the dead that were waited for.
fn tree_cpu_s(root: u32) -> f64 {
    let mut pids = vec![root];
    let mut ticks = 0;
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        ticks += cpu_ticks(pid, WITH_DEAD).unwrap_or_default();
        pids.extend(children(pid));
        next += 1;
    }
    seconds(ticks)
}

fn seconds(ticks: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a year of CPU is far below 2^52 ticks"
    )]
    let ticks = ticks as f64;
    #[expect(clippy::cast_precision_loss, reason = "the kernel says 100 or 1000")]
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    ticks / per_second
}

fn cpu_ticks(pid: u32, fields: std::ops::Range<usize>) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let all: Vec<&str> = rest.split_ascii_whitespace().collect();
    all.get(fields)?
        .iter()
        .map(|field| field.parse::<u64>().ok())
        .sum()
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Memory of a tree; what its processes share is counted once.
fn resident_mib(root: u32) -> f64 {
    let pids: Vec<u32> = std::iter::once(root).chain(children(root)).collect();
    let own = |pid: &u32| status_mib(*pid, "RssAnon:");
    let shared = |field| {
        pids.iter()
            .filter_map(|pid| status_mib(*pid, field))
            .fold(0.0, f64::max)
    };
    let own: f64 = pids.iter().filter_map(own).sum();
    own + shared("RssShmem:") + shared("RssFile:")
}

fn status_mib(pid: u32, field: &str) -> Option<f64> {
    kib(
        &fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        field,
    )
}

fn kib(text: &str, field: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_a_child_is_counted_while_it_runs_and_after_it_was_waited_for() {
        let own = std::process::id();
        let before = tree_cpu_s(own);
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"])
            .spawn()
            .expect("there is a shell");
        assert!(children(own).contains(&child.id()));
        child.wait().expect("it is our child");
        assert!(tree_cpu_s(own) > before + 0.02);
        assert!(resident_mib(own) > 1.0);
    }
}
