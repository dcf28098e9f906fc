//! The form by which a subscription is asked for.

use std::collections::HashMap;
use url::Url;

/// A subscription, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) channel: String,
    pub(super) chaincode: String,
    pub(super) category: String,
    pub(super) event_name: String,
    /// Block events: one of each block, without a transaction.
    pub(super) of_blocks: bool,
    pub(super) from: i64,
    pub(super) to: Option<i64>,
    pub(super) callback: Url,
}

impl Subscription {
    /// Reads the form.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub(super) fn parse(form: &[u8]) -> Result<Self, String> {
        let fields: HashMap<_, _> = url::form_urlencoded::parse(form).collect();
        let field = |name: &str| {
            let value = fields.get(name).map(|value| value.trim());
            value
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or_else(|| format!("{name} is missing"))
        };
        let block = |name: &str| {
            let text = field(name)?;
            let block = text.parse().ok().filter(|block: &i64| *block >= 0);
            block.ok_or_else(|| format!("{name} \"{text}\" is no block number"))
        };
        let from = block("startblock")?;
        let to = match fields.contains_key("endblock") {
            true => Some(block("endblock")?),
            false => None,
        };
        if let Some(to) = to.filter(|to| *to < from) {
            return Err(format!("endblock {to} lies before startblock {from}"));
        }
        let callback = field("callbackURL")?;
        let callback = Url::parse(&callback)
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or_else(|| "callbackURL is not an http address".to_owned())?;
        // Not looked at further, but asked for.
        field("eventType")?;
        let category = field("eventCategory")?;
        Ok(Self {
            channel: field("channelName")?,
            chaincode: field("chaincodeName")?,
            of_blocks: category.eq_ignore_ascii_case("block"),
            category,
            event_name: field("eventName")?,
            from,
            to,
            callback,
        })
    }

    /// Whether a block is wanted.
    pub(super) fn wants(&self, block: i64) -> bool {
        self.to.is_none_or(|to| block <= to)
    }
}

#[cfg(test)]
pub(super) fn example(from: i64, to: Option<i64>) -> Subscription {
    Subscription {
        channel: "dhlecomchannel".to_owned(),
        chaincode: "businesscontract".to_owned(),
        category: "Contract".to_owned(),
        event_name: "CLAIM_STATUS_CHANGE".to_owned(),
        of_blocks: false,
        from,
        to,
        callback: Url::parse("http://127.0.0.1:1/hook").unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "channelName=dhlecomchannel&chaincodeName=businesscontract\
        &eventCategory=Contract&eventName=CLAIM_STATUS_CHANGE&eventType=full&startblock=5\
        &callbackURL=http%3A%2F%2F127.0.0.1%3A1%2Fhook";

    #[test]
    fn the_form_of_the_seed_is_read() {
        assert_eq!(Subscription::parse(FORM.as_bytes()), Ok(example(5, None)));
        let ends = format!("{FORM}&endblock=9");
        assert_eq!(
            Subscription::parse(ends.as_bytes()),
            Ok(example(5, Some(9)))
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (from, to, words) in [
            ("channelName=dhlecomchannel&", "", "channelName is missing"),
            ("startblock=5", "startblock=-1", "startblock \"-1\""),
            (
                "startblock=5",
                "startblock=5&endblock=4",
                "endblock 4 lies before",
            ),
            ("startblock=5", "startblock=5&endblock=x", "endblock \"x\""),
            ("http%3A", "file%3A", "callbackURL"),
        ] {
            let form = FORM.replace(from, to);
            let error = Subscription::parse(form.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
