//! MiniStack: an emulator of AWS services in one local process, independent of moto. The first test that uses it installs
//! it from PyPI into `target/tools`.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::python;

/// The version that the tests were written against.
const VERSION: &str = "ministack==1.5.33";
/// The longest wait for its start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running MiniStack, empty at first.
#[derive(Debug)]
pub struct MiniStack {
    /// Its address, such as `http://127.0.0.1:40123`.
    pub endpoint: String,
    _program: Program,
}

impl MiniStack {
    /// Starts one on a free port. Panics when it cannot be installed or started.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let mut command = Command::new(python::with(VERSION).with_file_name("ministack"));
        command
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", address.port().to_string())
            .env("IOT_MTLS_ENABLED", "0") // It would want a port of its own.
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let program = Program::start(&mut command);
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < PATIENCE, "MiniStack does not answer on {address}");
            std::thread::yield_now();
        }
        Self { endpoint: format!("http://{address}"), _program: program }
    }
}
