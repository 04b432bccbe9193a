//! An object store as a destination, as restic writes it: `s3:https://endpoint/bucket/path`,
//! `b2:bucket:path`. rclone reaches it, with the keys that restic takes from the environment.

use crate::destination::access::Access;
use crate::destination::rclone::quoted;

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectStore {
    /// Anything that speaks S3.
    S3 {
        /// An address, or the host of one.
        endpoint: String,
        path: String,
    },
    /// Backblaze B2.
    B2 { path: String },
}

impl ObjectStore {
    /// Reads restic's notations (restic's manual, "Preparing a new repository").
    ///
    /// # Errors
    /// The fact that is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let path = |text: &str| text.trim_matches('/').to_owned();
        match scheme {
            "s3" => {
                const FORM: &str = "it is not of the form `s3:https://endpoint/bucket/path`";
                let (protocol, rest) = match rest.split_once("://") {
                    Some((protocol @ ("http" | "https"), rest)) => (format!("{protocol}://"), rest),
                    Some(_) => return Err(FORM.to_owned()),
                    None => (String::new(), rest.trim_start_matches('/')),
                };
                let (host, bucket) = rest.split_once('/').ok_or(FORM)?;
                if host.contains('@') {
                    return Err("an S3 location cannot contain keys: put them into `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`".to_owned());
                }
                if host.is_empty() || path(bucket).is_empty() {
                    return Err(FORM.to_owned());
                }
                Ok(Self::S3 {
                    endpoint: protocol + host,
                    path: path(bucket),
                })
            }
            _ => {
                let (bucket, inside) = rest.split_once(':').unwrap_or((rest, ""));
                if path(bucket).is_empty() {
                    return Err("it is not of the form `b2:bucket:path`".to_owned());
                }
                Ok(Self::B2 {
                    path: path(&format!("{}/{}", path(bucket), path(inside))),
                })
            }
        }
    }

    /// What rclone takes. Keys stay in the environment: arguments are for everybody to see.
    pub(crate) fn remote(&self, access: &Access) -> String {
        match self {
            Self::S3 { endpoint, path } => {
                let provider = match endpoint.ends_with("amazonaws.com") {
                    true => "AWS",
                    false => "Other",
                };
                let mut remote = format!(
                    ":s3,provider={provider},env_auth=true,endpoint={}",
                    quoted(endpoint)
                );
                if provider == "Other" {
                    // What restic tries first where it does not know better.
                    remote += ",force_path_style=true";
                }
                if let Some(region) =
                    value("AWS_REGION", access).or_else(|| value("AWS_DEFAULT_REGION", access))
                {
                    remote += &format!(",region={}", quoted(&region));
                }
                format!("{remote}:{path}")
            }
            Self::B2 { path } => format!(":b2:{path}"),
        }
    }

    /// The same keys under the names that rclone looks for.
    pub(crate) fn environment(&self, access: &Access) -> Vec<(&'static str, String)> {
        match self {
            Self::S3 { .. } => Vec::new(),
            Self::B2 { .. } => [
                ("RCLONE_B2_ACCOUNT", "B2_ACCOUNT_ID"),
                ("RCLONE_B2_KEY", "B2_ACCOUNT_KEY"),
            ]
            .into_iter()
            .filter_map(|(theirs, restics)| Some((theirs, value(restics, access)?)))
            .collect(),
        }
    }
}

fn value(name: &str, access: &Access) -> Option<String> {
    let given = access.environment.get(name).map(|value| value.to_string());
    given
        .or_else(|| std::env::var(name).ok())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> String {
        ObjectStore::parse(text).unwrap().remote(&Access::default())
    }

    #[test]
    fn restics_notations_become_rclones() {
        assert_eq!(
            remote("s3:http://127.0.0.1:9000/bucket/a/b/"),
            ":s3,provider=Other,env_auth=true,endpoint=\"http://127.0.0.1:9000\",force_path_style=true:bucket/a/b"
        );
        assert_eq!(
            remote("s3:s3.amazonaws.com/bucket"),
            ":s3,provider=AWS,env_auth=true,endpoint=\"s3.amazonaws.com\":bucket"
        );
        assert_eq!(
            remote("s3://minio.lan/bucket/p"),
            ":s3,provider=Other,env_auth=true,endpoint=\"minio.lan\",force_path_style=true:bucket/p"
        );
        assert_eq!(remote("b2:bucket:some/path"), ":b2:bucket/some/path");
        assert_eq!(remote("b2:bucket"), ":b2:bucket");
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in [
            "s3:",
            "s3:host",
            "s3:https://host/",
            "s3:ftp://h/b",
            "s3:https://key:secret@h/b",
            "b2:",
            "b2::p",
        ] {
            assert!(ObjectStore::parse(text).is_err(), "{text}");
        }
    }
}
