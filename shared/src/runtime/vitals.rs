//! What every process tells about itself: which build it is, what it uses of the machine, whether
//! its database answers, and when each of its loops last did what it is there for.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::clock::{Clock, SystemClock};

/// The vital signs of a process.
#[derive(Clone, Debug)]
pub struct Vitals {
    beats: GaugeVec,
    database_up: IntGauge,
}

/// The heartbeat of one loop.
#[derive(Clone, Debug)]
pub struct Beat(Gauge);

impl Vitals {
    /// Registers the vital signs of a process of that name and version.
    ///
    /// # Errors
    /// A name is taken on the registry.
    pub fn register(
        registry: &Registry,
        service: &str,
        version: &str,
    ) -> Result<Self, prometheus::Error> {
        let build = IntGaugeVec::new(
            Opts::new("hub_build_info", "1, labelled with what runs here."),
            &["service", "version"],
        )?;
        build.with_label_values(&[service, version]).set(1);
        let vitals = Self {
            beats: GaugeVec::new(
                Opts::new(
                    "hub_loop_last_success_timestamp_seconds",
                    "When a loop last did its work, in Unix time.",
                ),
                &["loop"],
            )?,
            database_up: IntGauge::new(
                "hub_database_up",
                "1 while the database answers this process.",
            )?,
        };
        registry.register(Box::new(build))?;
        registry.register(Box::new(vitals.beats.clone()))?;
        registry.register(Box::new(vitals.database_up.clone()))?;
        registry.register(Box::new(ProcessCollector::new()?))?;
        Ok(vitals)
    }

    /// The heartbeat of a loop. Its series begins now: a loop that never succeeds is seen too.
    #[must_use]
    pub fn beat(&self, name: &'static str) -> Beat {
        let beat = Beat(self.beats.with_label_values(&[name]));
        beat.now();
        beat
    }

    /// Whether the database answers, kept by `store::pool::watch`.
    #[must_use]
    pub fn database_up(&self) -> IntGauge {
        self.database_up.clone()
    }
}

impl Beat {
    /// The loop has just done its work.
    pub fn now(&self) {
        self.0.set(unix_seconds());
    }
}

/// Now, as Prometheus counts time.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemClock.now().timestamp_micros() as f64 / 1e6
}

/// What the kernel knows of this process, read at each scrape, by the names that Prometheus
/// clients agree on. Where there is no `/proc` the series stay at 0.
struct ProcessCollector {
    cpu: Counter,
    resident: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start: Gauge,
}

impl ProcessCollector {
    fn new() -> Result<Self, prometheus::Error> {
        let collector = Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time in seconds.",
            )?,
            resident: IntGauge::new("process_resident_memory_bytes", "Resident memory in bytes.")?,
            open_fds: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: IntGauge::new("process_max_fds", "The most file descriptors allowed.")?,
            threads: IntGauge::new("process_threads", "Threads of the process.")?,
            start: Gauge::new(
                "process_start_time_seconds",
                "When the process started, in Unix time.",
            )?,
        };
        collector.start.set(started_at().unwrap_or_default());
        Ok(collector)
    }

    fn parts(&self) -> [&dyn Collector; 6] {
        [
            &self.cpu,
            &self.resident,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
            &self.start,
        ]
    }

    fn refresh(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kib) = field(&status, "VmRSS:") {
            self.resident.set(kib * 1024);
        }
        if let Some(threads) = field(&status, "Threads:") {
            self.threads.set(threads);
        }
        if let Some(ticks) = cpu_ticks() {
            // Only ever forward: the counter may be read by two scrapes at once.
            let more = ticks / TICKS_PER_SECOND - self.cpu.get();
            if more > 0.0 {
                self.cpu.inc_by(more);
            }
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds
                .set(i64::try_from(open.count()).unwrap_or(i64::MAX));
        }
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        if let Some(most) = field(&limits, "Max open files") {
            self.max_fds.set(most);
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.parts()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

/// Linux tells the times of a process in hundredths of a second on every machine that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The first number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<i64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The fields of `/proc/self/stat` after the program's name, which may hold anything.
fn stat_fields() -> Option<Vec<f64>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(
        rest.split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or_default())
            .collect(),
    )
}

/// User and system time (proc(5): the 14th and 15th field).
fn cpu_ticks() -> Option<f64> {
    let fields = stat_fields()?;
    Some(fields.get(10)? + fields.get(11)?)
}

/// Boot time of the machine and start of the process after it (proc(5): the 22nd field).
fn started_at() -> Option<f64> {
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = field(&boot, "btime")?;
    Some(boot as f64 + stat_fields()?.get(18)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_process_tells_who_it_is_and_what_it_uses() {
        let registry = Registry::new();
        let vitals = Vitals::register(&registry, "ingest", "1.2.3").unwrap();
        vitals.beat("ledger").now();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert!(text.contains("{service=\"ingest\",version=\"1.2.3\"} 1"));
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_threads") >= 1.0);
        let now = unix_seconds();
        assert!((now - 86_400.0..=now + 2.0).contains(&value("process_start_time_seconds")));
        assert!(now - value("hub_loop_last_success_timestamp_seconds") < 5.0);
    }

    #[test]
    fn cpu_time_grows_and_never_falls() {
        let collector = ProcessCollector::new().unwrap();
        collector.refresh();
        let first = collector.cpu.get();
        let mut sum = 0_u64;
        while collector.cpu.get() <= first {
            for n in 0..1_000_000_u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
            }
            collector.refresh();
        }
        assert!(collector.cpu.get() > first);
    }
}
