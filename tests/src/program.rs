//! A program, such as `pollux`, that runs beside a test and ends with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

/// A running child process, killed when dropped.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts a process. Panics when it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display())))
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `pollux serve` that can be killed and started again on the same directory and port.
pub struct Pollux {
    binary: PathBuf,
    data: PathBuf,
    arguments: Vec<String>,
    client: Client,
    /// Its address.
    pub address: String,
    /// The size limit of its files, in kilobytes.
    pub largest_file: Option<u64>,
    /// The log filter, and the file that the log is appended to.
    pub log: Option<(&'static str, PathBuf)>,
}

impl Pollux {
    /// A `pollux serve` with this directory and these further arguments, on a port of its own.
    ///
    /// # Errors
    /// No port is free.
    pub fn new(binary: PathBuf, data: &Path, arguments: Vec<String>) -> Result<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let (data, client) = (data.to_owned(), Client::new());
        Ok(Self { binary, data, arguments, client, address, largest_file: None, log: None })
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn start(&self) -> Result<Program> {
        let mut command = Command::new("sh");
        // A write beyond the limit fails like one on a full disk, if the signal that comes with it is ignored.
        let limit =
            self.largest_file.map_or_else(String::new, |most| format!("trap '' XFSZ; ulimit -f {}; ", 2 * most));
        command.args(["-c", &format!("{limit}exec \"$0\" \"$@\"")]).arg(&self.binary);
        command.args(["serve", "--addr", &self.address, "--data"]).arg(&self.data).args(&self.arguments);
        command.env_remove("POLLUX_TABLE").env("POLLUX_LOG", self.log.as_ref().map_or("error", |(what, _)| what));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((_, file)) = &self.log {
            command.stderr(std::fs::File::options().create(true).append(true).open(file)?);
        }
        let mut program = Program::start(&mut command);
        let until = Instant::now() + Duration::from_secs(60);
        let health = format!("http://{}/healthz", self.address);
        loop {
            if self.client.get(&health).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(program);
            }
            ensure!(program.child().try_wait()?.is_none(), "pollux ended instead of serving");
            ensure!(Instant::now() < until, "pollux does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The `Authorization` header of the first user.
    ///
    /// # Errors
    /// It was never started.
    pub fn authorization(&self) -> Result<String> {
        let credentials: Value = serde_json::from_slice(&std::fs::read(self.data.join("credentials.json"))?)?;
        let secret = |name: &str| credentials[name].as_str().unwrap_or_default().to_owned();
        Ok(format!("User {}, Organization {}", secret("userSecret"), secret("organizationSecret")))
    }

    /// Makes an organization and its user. Returns their `Authorization` header.
    ///
    /// # Errors
    /// `pollux admin` fails.
    pub fn organization(&self, name: &str) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(["admin", "organization", "create", "--json", "--name", name, "--data"]).arg(&self.data);
        let output = command.env_remove("POLLUX_TABLE").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made: Value = serde_json::from_slice(&output.stdout)?;
        let secret = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Ok(format!("User {}, Organization {}", secret("userSecret"), secret("organizationSecret")))
    }

    /// Calls its API.
    ///
    /// # Errors
    /// No answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        let url = format!("http://{}/elements/api-v2{path}", self.address);
        let request = self.client.request(method, url).header("authorization", self.authorization()?);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null)))
    }
}

/// One of the workspace's own binaries, as built with the tests. Panics when it is not there.
pub fn binary(name: impl AsRef<OsStr>) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().expect("it lies in a folder");
    // The test executables are in a folder beside the binaries.
    let folder = if folder.ends_with("deps") { folder.parent().expect("deps lie in a folder") } else { folder };
    let path = folder.join(name.as_ref()).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} is not built; `cargo test --workspace` builds it, or `cargo build --workspace`",
        path.display()
    );
    path
}

/// A line of a process's memory status, such as `VmRSS:`, in kilobytes. `process` is its id, or `self`.
pub fn memory_kb(process: &str, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().next()?.parse().ok())
}
