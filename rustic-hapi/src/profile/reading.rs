//! What commands that only read go by: what opens the repository, and the profile of its snapshots, where this
//! machine has one.

use std::path::PathBuf;

use crate::profile::Profile;
use crate::profile::reach::Reach;
use crate::profile::sources::SeriesSource;

/// What was found of a profile.
#[derive(Debug)]
pub enum Found {
    /// All of it.
    Profile(Box<Profile>),
    /// None, and what opens the repository all the same.
    Reach(Box<Reach>),
}

/// The same, lent.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// What opens the repository.
    pub reach: &'a Reach,
    /// The profile, where this machine has one.
    pub profile: Option<&'a Profile>,
}

impl Found {
    /// What is read by.
    pub fn reading(&self) -> Reading<'_> {
        match self {
            Self::Profile(profile) => profile.reading(),
            Self::Reach(reach) => Reading {
                reach,
                profile: None,
            },
        }
    }
}

impl Profile {
    /// What is read by.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            reach: &self.reach,
            profile: Some(self),
        }
    }
}

impl<'a> Reading<'a> {
    /// The profile's sources.
    pub(crate) fn sources(self) -> &'a [SeriesSource] {
        self.profile.map_or(&[], |profile| &profile.sources)
    }

    /// What `$HAPI_HOME` means.
    pub(crate) fn hapi_home(self) -> PathBuf {
        let usual = || self.reach.home.join(".hapi");
        self.profile
            .map_or_else(usual, |profile| profile.hapi_home.clone())
    }

    /// Where captures are staged, and drills restored to.
    pub(crate) fn staging(self) -> PathBuf {
        let usual = || self.reach.state.join("staging");
        self.profile
            .map_or_else(usual, |profile| profile.staging.clone())
    }
}
