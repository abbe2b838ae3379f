//! A second handle on a connection's TCP socket.
//!
//! The client library runs a thread per connection and does not give it up while a peer is silent
//! in the handshake or takes no writes (a blocked connection). Shutting the socket ends the thread.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Shuts the socket when dropped.
#[derive(Default)]
pub(super) struct SocketGuard(Socket);

impl SocketGuard {
    /// For whoever opens the socket.
    pub(super) fn handle(&self) -> Socket {
        self.0.clone()
    }

    pub(super) fn shut(&self) {
        self.0.shut();
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.0.shut();
    }
}

/// Where the opener leaves its socket.
#[derive(Clone, Default)]
pub(super) struct Socket(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    stream: Option<TcpStream>,
    shut: bool,
}

impl Socket {
    /// Keeps a second handle; a socket that comes after the guard is gone is shut at once.
    ///
    /// # Errors
    /// The process is out of file descriptors; give up this connection.
    pub(super) fn hold(&self, stream: &impl AsFd) -> std::io::Result<()> {
        let second = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.shut {
            let _already_gone = second.shutdown(Shutdown::Both);
        } else {
            held.stream = Some(second);
        }
        Ok(())
    }

    fn shut(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.shut = true;
        if let Some(stream) = held.stream.take() {
            let _already_gone = stream.shutdown(Shutdown::Both);
        }
    }
}
