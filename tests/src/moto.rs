//! moto: an emulator of AWS services in one local process, the closest to SQS of those tried. The first test that uses it
//! installs it from PyPI into `target/tools`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::program::Program;
use crate::python;

/// The version that the tests were written against.
const VERSION: &str = "moto[server]==5.2.1";

/// A running moto, empty at first.
#[derive(Debug)]
pub struct Moto {
    /// Its address, such as `http://127.0.0.1:40123`.
    pub endpoint: String,
    _program: Program,
}

impl Moto {
    /// Starts one on a free port. Panics when it cannot be installed or started.
    pub fn start() -> Self {
        let mut command = Command::new(python::with(VERSION).with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut program = Program::start(&mut command);
        let mut lines = BufReader::new(program.child().stderr.take().expect("piped above")).lines();
        let running = " * Running on ";
        let said = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with(running));
        let endpoint = said.expect("moto says where it answers")[running.len()..].to_owned();
        // It logs every request; a pipe that nobody reads fills up and stops it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { endpoint, _program: program }
    }
}
