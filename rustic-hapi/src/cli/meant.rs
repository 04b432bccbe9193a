//! From what is said on the command line to what is meant: the library's requests.

use std::time::Duration;

use chrono::TimeDelta;

use crate::cli::set_up::{InitArgs, ScheduleArgs};
use crate::cli::values::LockArgs;
use crate::cli::{
    DrillArgs, ForgetArgs, Global, RecoveryKitArgs, RestoreArgs, SnapshotArgs, SnapshotsArgs,
    StatusArgs,
};
use crate::commands::{
    drill, forget, init, recovery_kit, restore, restore_in_place, snapshot, snapshots, status,
};
use crate::error::Error;
use crate::policy::choice::Which;
use crate::recovery::key::{KeyGoesTo, Origin};
use crate::schedule;

/// What a restore was asked for.
#[derive(Clone, Debug)]
pub enum Restoring {
    /// Into a folder.
    Into(restore::Request),
    /// To where the sources live.
    InPlace(restore_in_place::Request),
}

impl ForgetArgs {
    /// The library's request.
    pub fn request(&self, global: &Global) -> forget::Request {
        forget::Request {
            instant: self.instant,
            consent: global.consent(self.yes),
            dry_run: self.dry_run,
            unattended: self.unattended,
            prune: self.prune,
            lock_wait: self.lock.wait(),
        }
    }
}

impl SnapshotArgs {
    /// What is meant.
    ///
    /// # Errors
    /// `--keep` without `--tag`: a snapshot that stays should say why.
    pub fn request(&self) -> Result<snapshot::Request, Error> {
        if self.keep.is_some() && self.tag.is_empty() {
            return Err(Error::usage(
                "`--keep` needs `--tag`",
                "give a reason to keep it: `--tag before-upgrade --keep 60d`",
            ));
        }
        Ok(snapshot::Request {
            only: self.only.clone(),
            all: self.all,
            tags: self.tag.clone(),
            keep_hours: self.keep,
            dry_run: self.dry_run,
            no_forget: self.no_forget,
            lock_wait: self.lock.lock_wait,
        })
    }
}

impl SnapshotsArgs {
    /// What is meant.
    pub fn request(&self) -> snapshots::Request {
        snapshots::Request {
            host: self.host.clone(),
            all_hosts: self.all_hosts,
            latest: self.latest,
            tags: self.tag.clone(),
        }
    }
}

impl StatusArgs {
    /// What is meant.
    pub fn request(&self) -> status::Request {
        status::Request {
            max_age: self.max_age.and_then(|age| TimeDelta::from_std(age).ok()),
            host: self.host.clone(),
        }
    }
}

impl DrillArgs {
    /// What is meant.
    pub fn request(&self) -> drill::Request {
        drill::Request {
            which: which(self.snapshot.as_deref(), self.older || self.weekly),
            weekly: self.weekly,
            host: self.host.clone(),
            scratch: self.scratch.clone(),
            keep: self.keep,
            boot: self.boot.clone().map(|command| (command, self.boot_wait)),
        }
    }
}

impl RestoreArgs {
    /// What is meant.
    ///
    /// # Errors
    /// Nowhere to restore to.
    pub fn request(&self, global: &Global) -> Result<Restoring, Error> {
        let which = which(self.snapshot.as_deref(), false);
        Ok(match &self.target {
            None if !self.in_place => {
                return Err(Error::usage(
                    "say where to restore to: `--target DIR` or `--in-place`",
                    "`--target DIR` restores into a folder, `--in-place` to where the sources live, with the hub stopped",
                ));
            }
            Some(target) => Restoring::Into(restore::Request {
                which,
                target: std::path::absolute(target).unwrap_or_else(|_| target.clone()),
                sources: self.source.clone(),
                host: self.host.clone(),
                overwrite: self.overwrite,
                dry_run: self.dry_run,
            }),
            None => Restoring::InPlace(restore_in_place::Request {
                which,
                identities: self.identity.clone(),
                sources: self.source.clone(),
                host: self.host.clone(),
                dry_run: self.dry_run,
                consent: global.consent(self.yes),
                lock_wait: self.lock.wait(),
            }),
        })
    }
}

fn which(snapshot: Option<&str>, older: bool) -> Which {
    match snapshot {
        Some(name) => Which::Named(name.to_owned()),
        None if older => Which::Older,
        None => Which::Newest,
    }
}

impl ScheduleArgs {
    /// What is meant.
    pub fn request(&self) -> schedule::Request {
        use schedule::{Action, Kind};
        schedule::Request {
            kind: match (self.system, self.cron) {
                (true, _) => Kind::SystemTimer,
                (_, true) => Kind::Cron,
                _ => Kind::UserTimer,
            },
            action: match (self.install, self.remove) {
                (true, _) => Action::Install,
                (_, true) => Action::Remove,
                _ => Action::Print,
            },
            user: self.user.clone(),
        }
    }
}

impl LockArgs {
    /// What is meant.
    pub fn wait(&self) -> Duration {
        self.lock_wait
    }
}

impl InitArgs {
    /// What is meant where it is a copy's repository that is to be made.
    pub fn copy(&self, global: &Global) -> Option<init::copy::Request> {
        let shown = global.may_show().then_some(KeyGoesTo::Terminal);
        Some(init::copy::Request {
            name: self.copy.clone()?,
            recovery_key: self.recovery_key.clone().map(KeyGoesTo::File).or(shown),
            lock_wait: self.lock.wait(),
        })
    }

    /// What is meant. A recovery key is made where somebody reads it, or where it is asked for.
    pub fn request(&self, global: &Global) -> init::Request {
        let shown = global.may_show().then_some(KeyGoesTo::Terminal);
        init::Request {
            recovery_key: self.recovery_key.clone().map(KeyGoesTo::File).or(shown),
            recipients: self.recipient.clone(),
            recipients_files: self.recipients_file.clone(),
            extends: self.extends.clone(),
            hapi_home: self.hapi_home.clone(),
            host: self.host.clone(),
            adopt: self.adopt.clone(),
            with_agents: self.with_agents,
            allow_same_disk: self.allow_same_disk,
            environment_file: self
                .environment_file
                .as_ref()
                .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            consent: global.consent(false),
            lock_wait: self.lock.wait(),
        }
    }
}

impl RecoveryKitArgs {
    /// What is meant.
    ///
    /// # Errors
    /// A new key with no place to go to, a kept one with nowhere to come from.
    pub fn request(&self, global: &Global) -> Result<recovery_kit::Request, Error> {
        use recovery_kit::Request;
        let file = self.key_file.as_deref();
        match (self.new_key, self.confirm, file) {
            (true, _, _) => recovery_kit::place(file, global.may_show()).map(Request::NewKey),
            (_, true, Some(path)) if path.as_os_str() != "-" => {
                Ok(Request::Confirm(Origin::File(path.into())))
            }
            (_, true, dash) => match Origin::stdin() {
                Origin::Stdin if dash.is_none() => Err(Error::usage(
                    "cannot ask for the recovery key without a terminal",
                    "name the file it is in: `--key-file FILE`, or `-` for standard input",
                )),
                origin => Ok(Request::Confirm(origin)),
            },
            (_, _, Some(_)) => Err(Error::Usage {
                fact: "`--key-file` needs `--new-key` or `--confirm`".into(),
                hint: None,
            }),
            (_, _, None) => Ok(Request::Page(self.output.clone())),
        }
    }
}
