//! A cheap key opens a repository with next to no work: scrypt with N = 2, where the engine's and restic's take
//! 128 MiB and a third of a second at each opening, of which a run of the tests has thousands.
//!
//! No build of the program can make one, since the engine's parameters are fixed: the tests write these key
//! files. Both programs read the parameters from the file, and do all else as ever.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aes256ctr_poly1305aes::aead::Aead;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use rustic_core::repofile::{ConfigFile, KeyFile, MasterKey};
use rustic_core::{Credentials, Id, KeyOptions, Repository, RepositoryOptions};
use sha2::{Digest, Sha256};

use super::{Home, copy, files_below};

/// What the password of a key file has its content encrypted with.
fn cipher(key: &KeyFile, password: &str) -> Aes256CtrPoly1305Aes {
    let cost = u8::try_from(key.n.ilog2()).unwrap();
    let parameters = scrypt::Params::new(cost, key.r, key.p).unwrap();
    let mut derived = [0; 64];
    scrypt::scrypt(password.as_bytes(), &key.salt, &parameters, &mut derived).unwrap();
    Aes256CtrPoly1305Aes::new(Key::from_slice(&derived))
}

/// The key file of a master key, its JSON text in `master`, like another one in all but its cost.
fn cheap(like: KeyFile, master: &[u8], password: &str) -> Vec<u8> {
    let mut key = KeyFile {
        n: 2,
        r: 1,
        p: 1,
        salt: random::<64>().to_vec(),
        ..like
    };
    let nonce = random::<16>();
    let encrypted = cipher(&key, password)
        .encrypt(Nonce::from_slice(&nonce), master)
        .unwrap();
    key.data = [&nonce[..], &encrypted].concat();
    serde_json::to_vec(&key).unwrap()
}

fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// The files of a repository's keys.
fn keys(repository: &Path) -> Vec<PathBuf> {
    let found = files_below(&repository.join("keys"));
    found.into_iter().map(|(path, _)| path).collect()
}

fn replace(old: &Path, key: &[u8]) {
    let new = old.with_file_name(hex::encode(Sha256::digest(key)));
    let permissions = fs::metadata(old).unwrap().permissions();
    fs::remove_file(old).unwrap();
    fs::write(&new, key).unwrap();
    fs::set_permissions(&new, permissions).unwrap();
}

/// Replaces the one key of a repository by a cheap one for the same password.
pub fn cheapen(repository: &Path, password: &Path) {
    let password = fs::read_to_string(password).unwrap();
    let keys = keys(repository);
    let [path] = &keys[..] else {
        panic!("one key is expected: {keys:?}");
    };
    let key: KeyFile = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (nonce, encrypted) = key.data.split_at(16);
    let master = cipher(&key, password.trim())
        .decrypt(Nonce::from_slice(nonce), encrypted)
        .unwrap();
    replace(path, &cheap(key, &master, password.trim()));
}

/// What `init` makes, once in a run of the tests.
struct Template {
    home: Home,
    config: ConfigFile,
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let home = Home::new();
        home.init().exits(0);
        let config = home.engine().config().clone();
        Template { home, config }
    })
}

/// A repository as `init` makes it, with an id, a master key and a password of its own, and a cheap key.
pub fn repository(place: &Path, password: &Path) {
    let Template { home, config } = template();
    copy(&home.repository(), place);
    let file = place.join("config");
    let permissions = fs::metadata(&file).unwrap().permissions();
    fs::remove_file(&file).unwrap();
    let mut config = config.clone();
    config.id = Id::random().into();
    let master = MasterKey::new();
    let mut options = RepositoryOptions::default();
    options.no_cache = true;
    let backends = rustic_backend::BackendOptions::default()
        .repository(place.to_str().unwrap())
        .to_backends()
        .unwrap();
    Repository::new(&options, &backends)
        .unwrap()
        .init_with_config(
            &Credentials::Masterkey(master.clone()),
            &KeyOptions::default(),
            config,
        )
        .unwrap();
    fs::set_permissions(&file, permissions).unwrap();
    let of_init = keys(place).remove(0);
    let key = serde_json::from_slice(&fs::read(&of_init).unwrap()).unwrap();
    let master = serde_json::to_vec(&master).unwrap();
    let text = hex::encode(random::<32>());
    replace(&of_init, &cheap(key, &master, &text));
    let folder = password.parent().unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(password, format!("{text}\n")).unwrap();
    fs::set_permissions(password, fs::Permissions::from_mode(0o600)).unwrap();
}
