//! The real hub of the npm registry on a free loopback port, and its own ways in: HTTP for sessions and what people type,
//! socket.io (by long polling, which is plain HTTP) for what agents say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::{Value, json};

use super::servers::{Server, free_port};

/// The hub whose tables and export the tests are about.
const VERSION: &str = "0.30.7";
const TOKEN: &str = "a-token-of-the-tests-alone";

/// The hub's program, which npm puts into the cache once.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").unwrap_or("/root".into())).join(".cache")
        });
        let folder = cache.join(format!("rustic-hapi/tools/hapi-{VERSION}"));
        let machine = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "x64",
        };
        let package = format!("@twsxtd/hapi-linux-{machine}");
        let program = folder.join("node_modules").join(&package).join("bin/hapi");
        if !program.exists() {
            let said = Command::new("npm")
                .args([
                    "install",
                    "--no-save",
                    "--no-audit",
                    "--no-fund",
                    "--ignore-scripts",
                ])
                .arg("--prefix")
                .arg(&folder)
                .arg(format!("{package}@{VERSION}"))
                .output()
                .unwrap_or_else(|error| panic!("`npm` is needed for the hub's package: {error}"));
            assert!(
                said.status.success() && program.exists(),
                "npm does not install {package}@{VERSION}: {}",
                String::from_utf8_lossy(&said.stderr)
            );
        }
        program
    })
}

/// A hub that runs.
pub struct RealHub {
    server: Server,
    client: Client,
    /// The web interface's token.
    web: String,
}

impl RealHub {
    /// Starts one on this home of HAPI's.
    pub fn start(hapi_home: &Path) -> Self {
        let port = free_port();
        let home = hapi_home.parent().unwrap().to_str().unwrap();
        let listen = port.to_string();
        let environment = [
            ("HOME", home),
            ("HAPI_HOME", hapi_home.to_str().unwrap()),
            ("CLI_API_TOKEN", TOKEN),
            ("HAPI_LISTEN_HOST", "127.0.0.1"),
            ("HAPI_LISTEN_PORT", &listen),
        ];
        let server = Server::start(program(), &["hub", "--no-relay"], &environment, port);
        // Refused from the second time on.
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let mut hub = Self {
            server,
            client,
            web: String::new(),
        };
        let signed_in = hub.post("/api/auth", "", &json!({ "accessToken": TOKEN }));
        hub.web = signed_in["token"].as_str().unwrap().to_owned();
        hub
    }

    /// A new session, as a runner makes one. Its id.
    pub fn session(&self, tag: &str, metadata: &Value) -> String {
        let made = self.post(
            "/cli/sessions",
            TOKEN,
            &json!({ "tag": tag, "metadata": metadata }),
        );
        made["session"]["id"].as_str().unwrap().to_owned()
    }

    /// Messages as an agent's process sends them; then the session is alive, or has ended.
    pub fn agent_says(&self, session: &str, contents: &[Value], is_alive: bool) {
        let opened = self.text(
            self.client
                .get(self.url("/socket.io/?EIO=4&transport=polling")),
        );
        let opened: Value = serde_json::from_str(&opened[1..]).unwrap();
        let socket = opened["sid"].as_str().unwrap();
        let url = self.url(&format!("/socket.io/?EIO=4&transport=polling&sid={socket}"));
        let send = |text: String| _ = self.text(self.client.post(&url).body(text));
        let auth = json!({ "token": TOKEN, "clientType": "session-scoped", "sessionId": session });
        send(format!("40/cli,{auth}"));
        let answer = self.text(self.client.get(&url));
        assert!(answer.starts_with("40/cli,"), "{answer}");
        for content in contents {
            let event = json!(["message", { "sid": session, "message": content }]);
            send(format!("42/cli,{event}"));
        }
        let now = chrono::Utc::now().timestamp_millis();
        let event = match is_alive {
            true => "session-alive",
            false => "session-end",
        };
        let event = json!([event, { "sid": session, "time": now }]);
        send(format!("42/cli,{event}"));
    }

    /// What a person types in the web interface. With a local id it waits for the agent.
    pub fn person_says(&self, session: &str, text: &str, local_id: Option<&str>) {
        let body = match local_id {
            Some(id) => json!({ "text": text, "localId": id }),
            None => json!({ "text": text }),
        };
        self.post(
            &format!("/api/sessions/{session}/messages"),
            &self.web,
            &body,
        );
    }

    pub fn note(&self, session: &str, text: &str) {
        let path = format!("/api/sessions/{session}/scratchlist");
        self.post(&path, &self.web, &json!({ "text": text }));
    }

    /// The hub's own export.
    pub fn export(&self, session: &str) -> Value {
        let url = self.url(&format!("/api/sessions/{session}/export"));
        serde_json::from_str(&self.text(self.client.get(url).bearer_auth(&self.web))).unwrap()
    }

    pub fn delete(&self, session: &str) {
        let url = self.url(&format!("/api/sessions/{session}"));
        self.text(self.client.delete(url).bearer_auth(&self.web));
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.server.port)
    }

    #[track_caller]
    fn post(&self, path: &str, token: &str, body: &Value) -> Value {
        let request = self.client.post(self.url(path)).bearer_auth(token);
        let request = request
            .header("content-type", "application/json")
            .body(body.to_string());
        serde_json::from_str(&self.text(request)).unwrap()
    }

    #[track_caller]
    fn text(&self, request: reqwest::blocking::RequestBuilder) -> String {
        let answer = request.send().unwrap();
        let (status, text) = (answer.status(), answer.text().unwrap());
        assert!(status.is_success(), "{status}: {text}");
        text
    }
}
