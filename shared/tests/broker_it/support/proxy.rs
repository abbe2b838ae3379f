//! A TCP proxy in front of the broker whose connections can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::amqp_url;

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    shut: AtomicBool,
    silent: AtomicBool,
    cut: std::sync::Mutex<CancellationToken>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        tokio::spawn(serve(listener, broker_address(), Arc::clone(&shared)));
        Self { address, shared }
    }

    /// The broker's URL through this proxy.
    pub(crate) fn url(&self) -> String {
        let (from, _) = endpoint(&amqp_url());
        amqp_url().replacen(&from, &self.address.to_string(), 1)
    }

    /// Breaks every open connection; new ones are let through unless it is shut.
    pub(crate) fn cut(&self) {
        let mut cut = self.shared.cut.lock().unwrap();
        std::mem::take(&mut *cut).cancel();
    }

    /// Refuses new connections from now on.
    pub(crate) fn shut(&self) {
        self.shared.shut.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Accepts new connections, but answers nothing on them.
    pub(crate) fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets connections through again.
    pub(crate) fn open(&self) {
        self.shared.shut.store(false, Ordering::SeqCst);
        self.shared.silent.store(false, Ordering::SeqCst);
        self.cut();
    }
}

async fn serve(listener: TcpListener, broker: String, shared: Arc<Shared>) {
    while let Ok((mut inside, _)) = listener.accept().await {
        if shared.shut.load(Ordering::SeqCst) {
            continue;
        }
        let cut = shared.cut.lock().unwrap().clone();
        let silent = shared.silent.load(Ordering::SeqCst);
        let broker = broker.clone();
        tokio::spawn(async move {
            if silent {
                cut.cancelled().await;
                return;
            }
            let mut outside = TcpStream::connect(broker).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut inside, &mut outside) => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

fn broker_address() -> String {
    let (written, port) = endpoint(&amqp_url());
    let host = written.split(':').next().unwrap_or_default();
    format!("{host}:{port}")
}

/// Host and port as the URL writes them, and the port in any case.
fn endpoint(url: &str) -> (String, u16) {
    let rest = url.split_once("://").expect("a URL").1;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let written = authority.rsplit('@').next().unwrap_or_default();
    let port = written
        .rsplit_once(':')
        .map_or(5672, |(_, port)| port.parse().unwrap());
    (written.to_owned(), port)
}
