//! A long way on loopback: what is sent arrives later, and no faster than the line lets it, in each direction
//! by itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// What it is called in a table.
pub const NAME: &str = ", over SFTP with 50 ms of round trip at 100 Mbit/s";

/// One way.
const DELAY: Duration = Duration::from_millis(25);

/// Bytes a second.
const RATE: f64 = 100e6 / 8.0;

/// So much is on the way at a time, in pieces: twice what the line holds, as a router would keep it.
const PIECE: usize = 16 << 10;
const PIECES: usize = 80;

/// Listens before a port of this machine. It ends with the process.
pub fn before(far: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let near = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", far)) else {
                continue;
            };
            for stream in [&client, &server] {
                let _ = stream.set_nodelay(true);
            }
            let (Ok(back), Ok(answers)) = (client.try_clone(), server.try_clone()) else {
                continue;
            };
            one_way(client, server);
            one_way(answers, back);
        }
    });
    Ok(near)
}

fn one_way(mut from: TcpStream, mut to: TcpStream) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIECES);
    thread::spawn(move || {
        for (due, piece) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut free = Instant::now();
        let mut piece = vec![0; PIECE];
        while let Ok(n @ 1..) = from.read(&mut piece) {
            free = free.max(Instant::now()) + Duration::from_secs_f64(n as f64 / RATE);
            if sender.send((free + DELAY, piece[..n].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
    });
}
