//! Another Highwater: `/v1/datasets/{name}/…`, or `/v1/replicas/{name}/…` where the
//! address says so.

use super::client::Client;
use crate::flows::replicas::{
    Chunk, DatasetName, Digests, Epoch, Fetched, Fetching, Head, Info, Upstream, UpstreamError,
};
use futures_util::future::BoxFuture;
use std::time::Duration;
use url::Url;

/// A dataset or a replica of another node.
pub(super) struct HttpUpstream {
    client: Client,
    /// Path of the content, without a slash at its end.
    path: String,
}

impl HttpUpstream {
    pub(super) fn new(client: Client, dataset: &DatasetName) -> Self {
        let path = client.base().path().trim_end_matches('/');
        let names_it = path.rsplit_once('/').is_some_and(|(folder, name)| {
            let folders = ["/v1/datasets", "/v1/replicas"];
            !name.is_empty() && folders.iter().any(|end| folder.ends_with(end))
        });
        let path = if names_it {
            path.to_owned()
        } else {
            format!("{path}/v1/datasets/{dataset}")
        };
        Self { client, path }
    }

    fn url(&self, route: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.client.base().clone();
        url.set_path(&format!("{}/{route}", self.path));
        if !query.is_empty() {
            url.query_pairs_mut()
                .extend_pairs(query.iter().map(|(key, value)| (key, value)));
        }
        url
    }
}

impl Upstream for HttpUpstream {
    fn info(&self, splits: Option<usize>) -> BoxFuture<'_, Result<Info, UpstreamError>> {
        let query: Vec<_> = splits
            .map(|splits| ("splits", splits.to_string()))
            .into_iter()
            .collect();
        let url = self.url("info", &query);
        Box::pin(self.client.get(url, None, Duration::ZERO))
    }

    fn fetch(&self, fetching: Fetching) -> BoxFuture<'_, Result<Fetched, UpstreamError>> {
        let mut query = Vec::new();
        match fetching.chunk {
            Chunk::Index { begin, end } => {
                query.push(("begin", begin.to_string()));
                query.push(("end", end.to_string()));
            }
            Chunk::Key {
                after,
                until,
                limit,
            } => {
                query.push(("after", after));
                query.extend(until.map(|until| ("until", until)));
                query.push(("limit", limit.to_string()));
            }
        }
        if let Some(since) = fetching.since {
            query.push(("head", since.head.to_string()));
            query.extend(since.epoch.map(|epoch| ("epoch", epoch.to_string())));
            query.extend(since.from.map(|from| ("from", from)));
        }
        let url = self.url("fetch", &query);
        Box::pin(self.client.get(url, None, Duration::ZERO))
    }

    fn watch(
        &self,
        epoch: Epoch,
        head: Head,
        wait: Duration,
    ) -> Option<BoxFuture<'_, Result<Info, UpstreamError>>> {
        let query = [
            ("head", head.to_string()),
            ("epoch", epoch.to_string()),
            ("timeout", format!("{}ms", wait.as_millis())),
        ];
        let url = self.url("watch", &query);
        Some(Box::pin(self.client.get(url, None, wait)))
    }

    fn digests(
        &self,
        after: String,
        until: Option<String>,
        limit: u64,
        splits: usize,
        (epoch, head): (Epoch, Head),
    ) -> Option<BoxFuture<'_, Result<Digests, UpstreamError>>> {
        let mut query = vec![
            ("after", after),
            ("limit", limit.to_string()),
            ("splits", splits.to_string()),
            ("head", head.to_string()),
            ("epoch", epoch.to_string()),
        ];
        query.extend(until.map(|until| ("until", until)));
        let url = self.url("digests", &query);
        Some(Box::pin(self.client.get(url, None, Duration::ZERO)))
    }

    fn place(&self) -> String {
        self.client.place()
    }
}
