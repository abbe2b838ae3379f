//! TCP connections that can be cut on purpose.
//!
//! A handler that wants the client to see a reset burns the fuse of its connection: the next write
//! fails, the server drops the socket, and `SO_LINGER 0` turns the close into a RST.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Handle to one connection, given to handlers as connect info.
#[derive(Clone)]
pub(super) struct Fuse(Arc<AtomicI64>);

impl Fuse {
    /// Resets the connection after at most `bytes` more bytes have been written to it.
    pub(super) fn burn_after(&self, bytes: i64) {
        self.0.store(bytes, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Fuse {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        stream.io().fuse.clone()
    }
}

/// A TCP listener whose connections carry a [`Fuse`].
pub(super) struct CuttableListener(pub(super) TcpListener);

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, addr) = Listener::accept(&mut self.0).await;
        // Small answers on kept-alive connections would wait for Nagle; a failure costs only that.
        let _ = stream.set_nodelay(true);
        let fuse = Fuse(Arc::new(AtomicI64::new(i64::MAX)));
        (CuttableStream { stream, fuse }, addr)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A TCP stream that stops writing, and resets, when its fuse is burnt.
pub(super) struct CuttableStream {
    stream: TcpStream,
    fuse: Fuse,
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.fuse.0.load(Ordering::Acquire);
        if left == i64::MAX {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        if left <= 0 {
            self.stream.set_zero_linger()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let allowed = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let written = Pin::new(&mut self.stream).poll_write(cx, &buf[..allowed]);
        if let Poll::Ready(Ok(count)) = &written {
            let count = i64::try_from(*count).unwrap_or(left);
            self.fuse.0.store(left - count, Ordering::Release);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
