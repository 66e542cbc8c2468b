//! The listening sockets: those that systemd passed, and those we bind ourselves.

use std::io;
use std::net::SocketAddr;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use relay_config::{ListenAddress, Listener};
use relay_observe::{Event, Events};
use relay_submission::{Bound, Socket};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

/// Connections that wait for accept(2).
const BACKLOG: u32 = 1024;

/// One socket for each `[[listener]]`: the one systemd passed for its address, else a new one.
pub fn bind(listeners: &[Listener], events: &Events) -> Result<Vec<Bound>, String> {
    let mut passed = passed_by_systemd()?;
    let mut bound = Vec::new();
    for listener in listeners {
        let socket = match passed
            .iter()
            .position(|(address, _)| *address == listener.address)
        {
            Some(place) => passed.swap_remove(place).1,
            None => open(&listener.address).map_err(|error| explain(&listener.address, &error))?,
        };
        events.emit(Event::Listening {
            address: shown(&socket, &listener.address),
        });
        bound.push(Bound {
            socket,
            listener: listener.clone(),
        });
    }
    if let Some((address, _)) = passed.first() {
        return Err(format!(
            "systemd passed a socket on {} that no [[listener]] names: add one with this address, or mend relayd.socket",
            text(address)
        ));
    }
    Ok(bound)
}

fn open(address: &ListenAddress) -> io::Result<Socket> {
    match address {
        ListenAddress::Tcp(address) => {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            Ok(Socket::Tcp(socket.listen(BACKLOG)?))
        }
        ListenAddress::Unix(path) => {
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Ok(Socket::Unix(listener))
        }
    }
}

/// A socket file that a killed relayd left behind. Never removes anything but a socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn passed_by_systemd() -> Result<Vec<(ListenAddress, Socket)>, String> {
    let mut passed = Vec::new();
    let descriptors = sd_notify::listen_fds()
        .map_err(|error| format!("the sockets that systemd passed: {error}"))?;
    for descriptor in descriptors {
        passed.push(
            adopt(descriptor)
                .map_err(|error| format!("socket {descriptor} from systemd: {error}"))?,
        );
    }
    Ok(passed)
}

fn adopt(descriptor: i32) -> io::Result<(ListenAddress, Socket)> {
    // SAFETY: systemd's protocol (sd_listen_fds(3)) hands these descriptors to us alone, and each is
    // taken once.
    let tcp = unsafe { std::net::TcpListener::from_raw_fd(descriptor) };
    if let Ok(address) = tcp.local_addr() {
        tcp.set_nonblocking(true)?;
        return Ok((
            ListenAddress::Tcp(address),
            Socket::Tcp(TcpListener::from_std(tcp)?),
        ));
    }
    // Not an IP socket, then a unix one: the same descriptor under its right type.
    let unix = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(tcp));
    unix.set_nonblocking(true)?;
    let path = unix
        .local_addr()?
        .as_pathname()
        .map(PathBuf::from)
        .unwrap_or_default();
    Ok((
        ListenAddress::Unix(path),
        Socket::Unix(UnixListener::from_std(unix)?),
    ))
}

/// The address as it is now: port 0 has become a real one.
fn shown(socket: &Socket, wanted: &ListenAddress) -> String {
    let now: Option<SocketAddr> = match socket {
        Socket::Tcp(listener) => listener.local_addr().ok(),
        Socket::Unix(_) => None,
    };
    now.map_or_else(|| text(wanted), |address| address.to_string())
}

fn text(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn explain(address: &ListenAddress, error: &io::Error) -> String {
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another address in [[listener]]"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: start it with systemd/relayd.service, or choose a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: look at `ip address`",
        _ => "choose another address in [[listener]]",
    };
    format!("cannot listen on {}: {error}; {fix}", text(address))
}
