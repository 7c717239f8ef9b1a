//! moto: AWS services in one local process, the closest to SQS of what was tried. Installed from PyPI into
//! `target/tools` by the first test that wants it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::program::Program;

/// The version that the tests were written against.
const VERSION: &str = "moto[server]==5.2.1";

/// A running moto, empty at first.
#[derive(Debug)]
pub struct Moto {
    /// Where it answers, such as `http://127.0.0.1:40123`.
    pub endpoint: String,
    _program: Program,
}

impl Moto {
    /// Starts one on a free port. Panics when it cannot be installed or started.
    pub fn start() -> Self {
        let mut command = Command::new(executable());
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

fn executable() -> &'static Path {
    static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let tools =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(VERSION.replace(['[', ']', '='], "-"));
        let executable = tools.join("bin/moto_server");
        if !executable.exists() {
            let run = |command: &mut Command| {
                let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
                assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            };
            run(Command::new("python3").args(["-m", "venv"]).arg(&tools));
            run(Command::new(tools.join("bin/pip")).args(["install", "--quiet", VERSION]));
        }
        executable
    })
}
