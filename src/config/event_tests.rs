//! Configurations of the event flow: what a person writes, and what they are told.

use super::*;
use crate::flows::events::SubscriptionName;
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::time::Duration;

const ISSUE: &str = r#"
[[gateways]]
name = "customs"
kind = "rest"
url = "http://127.0.0.1:9100/subscribe"
callback_base = "http://127.0.0.1:8780"

[[subscriptions]]
name = "claims"
gateway = "customs"
channel = "dhlecomchannel"
chaincode = "businesscontract"
event_category = "Contract"
event_name = "CLAIM_STATUS_CHANGE"
event_type = "full"
start_block = 0
window = 1000
skip_blocks = ["17", "100-120"]
hook_secret_file = "claims.secret"
fields = { block = "/blockNumber", tx_id = "/transactionId", key = "/payload/key", ordinal = "/eventIndex" }
relevance = { attempts = 3, delay = "1s", window = 256 }
silence = "10m"
[subscriptions.handler.http]
url = "http://127.0.0.1:9000/process"
"#;

const GATEWAY: &str =
    "[[gateways]]\nname='g'\nkind='rest'\nurl='http://h/s'\ncallback_base='http://here'\n";

const SECRET: &str = "hunter2-hunter2-hunter2";

/// A subscription whose hook somebody calls.
fn hook(name: &str, more: &str) -> String {
    format!("[[subscriptions]]\nname='{name}'\nhook_secret_file='claims.secret'\n{more}\n")
}

fn try_parse(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("claims.secret"), format!("{SECRET}\n")).unwrap();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: Vec<_> = environment.iter().map(owned).collect();
    parse(
        text,
        "hw.toml",
        folder.path(),
        environment,
        LoadOptions::default(),
    )
}

fn loaded(text: &str, environment: &[(&str, &str)]) -> Loaded {
    try_parse(text, environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> String {
    match try_parse(text, &[]) {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => errors.to_string(),
    }
}

fn only(loaded: Loaded) -> SubscriptionSettings {
    let mut subscriptions = loaded.settings.subscriptions;
    assert_eq!(subscriptions.len(), 1);
    subscriptions.remove(0)
}

#[test]
fn the_subscription_of_the_issue_works() {
    let loaded = loaded(ISSUE, &[]);
    assert_eq!(loaded.settings.events, EventsSettings::default());
    let gateway = &loaded.settings.gateways[0];
    assert_eq!(gateway.name, "customs");
    assert_eq!(gateway.kind, GatewayKind::Rest);
    assert_eq!(gateway.url.as_str(), "http://127.0.0.1:9100/subscribe");
    assert_eq!(gateway.timeout, Duration::from_secs(10));
    let claims = only(loaded);
    let source = SourceSettings::Gateway(GatewaySource {
        gateway: "customs".to_owned(),
        channel: "dhlecomchannel".to_owned(),
        chaincode: "businesscontract".to_owned(),
        event_category: "Contract".to_owned(),
        event_name: "CLAIM_STATUS_CHANGE".to_owned(),
        event_type: "full".to_owned(),
        start_block: 0,
        window: Some(1000),
    });
    let name = SubscriptionName::parse("claims").unwrap();
    let expected = SubscriptionSettings {
        skip_blocks: vec![17..=17, 100..=120],
        hook_secret: Some(SecretOf(SecretString::from(SECRET))),
        fields: Fields {
            key: Some("/payload/key".to_owned()),
            ordinal: Some("/eventIndex".to_owned()),
            ..Fields::default()
        },
        handler: EventHandlerSettings::Http(EventHttp {
            url: "http://127.0.0.1:9000/process".parse().unwrap(),
            secret: None,
            token: None,
            timeout: Duration::from_secs(10),
        }),
        ..SubscriptionSettings::new(name, source)
    };
    assert_eq!(claims, expected);
    assert!(claims.skips(117) && !claims.skips(121));
}

#[test]
fn what_is_left_out_is_at_its_default() {
    let told = only(loaded(&hook("a", ""), &[]));
    let name = SubscriptionName::parse("a").unwrap();
    let expected = SubscriptionSettings {
        hook_secret: Some(SecretOf(SecretString::from(SECRET))),
        ..SubscriptionSettings::new(name, SourceSettings::Hook)
    };
    assert_eq!(told, expected);
}

#[test]
fn every_other_way_to_write_a_subscription_is_read() {
    let ledger = "[[ledgers]]\nname='l'\nkind='splinter'\nurl='http://l'\n";
    let text = format!(
        "{ledger}[[subscriptions]]\nname='a'\nledger='l'\nservice='c::s'\naddress_prefixes=['5b7349']\nrelevance='all'\n\
         handler.command={{ args=['bin/process', '-v'], timeout='5s' }}"
    );
    let told = only(loaded(&text, &[]));
    assert_eq!(
        told.source,
        SourceSettings::Ledger(LedgerSource {
            ledger: "l".to_owned(),
            service: "c::s".to_owned(),
            address_prefixes: vec!["5b7349".to_owned()],
            start_block: 0,
        })
    );
    assert_eq!(told.relevance, Relevance::All);
    let EventHandlerSettings::Command(command) = told.handler else {
        panic!("{:?}", told.handler);
    };
    assert!(command.args[0].starts_with('/') && command.args[0].ends_with("/bin/process"));
    assert_eq!(command.args[1], "-v");

    let text = hook(
        "a",
        "order='ordinal'\nsettle='500ms'\nfields.ordinal='/n'\nlate='process'\n\
         relevance={ backoff=2, sql='select 1 from o where t = $1' }\nhandler.code={}",
    );
    let told = only(loaded(&text, &[]));
    let settle = Duration::from_millis(500);
    assert_eq!(told.order, Order::Ordinal { settle });
    assert_eq!(told.late, Late::Process);
    let timeout = Duration::from_secs(60);
    assert_eq!(
        told.handler,
        EventHandlerSettings::Code(EventCode { timeout })
    );
    let Relevance::Known(wait) = told.relevance else {
        panic!("{:?}", told.relevance);
    };
    assert_eq!((wait.backoff, wait.sql.is_some()), (2.0, true));

    let told = only(loaded(&hook("a", "handler='table'"), &[]));
    assert_eq!(told.handler, EventHandlerSettings::Table);
}

#[test]
fn every_mistake_is_told_where_it_stands() {
    let text = "[events]\nmax_event_bytes='1GiB'\n\
        [[gateways]]\nname='g'\nkind='grpc'\nurl='http://u:p@h'\n\
        [[subscriptions]]\nname='a'\nchannel='c'\nskip_blocks=['17', '3-1', 4]\nfields={ block='blockNumber', key='' }\n\
        relevance='some'\nhandler='nothing'\norder='ordinal'\nlate='never'\nsilence='1ms'\n\
        retry={ attempts=0, delay='10s', max_delay='1s' }\n\
        [[subscriptions]]\nname='a'\ngateway='x'\nledger='y'\n\
        [[subscriptions]]\nname='b'\nledger='y'\nhook_secret_file='s'\nwindow=5\norder='ordinal'\nservice='s'\naddress_prefixes=['XY']\n\
        [subscriptions.handler]\nhttp={ url='h' }\ncode={}\n";
    let told = errors(text);
    assert!(!told.contains("u:p"));
    insta::assert_snapshot!(told, @r#"
    hw.toml:2:17: events.max_event_bytes: "1GiB" is out of range; expected 1.0 KiB to 64.0 MiB
    hw.toml:3:1: gateways[0].callback_base: missing; expected this server's address as the gateway reaches it, e.g. callback_base = "http://127.0.0.1:8780"
    hw.toml:5:6: gateways[0].kind: "grpc" is not known; expected "rest"
    hw.toml:6:5: gateways[0].url: the address holds a user or password; put the gateway's token in a file and name that with token_file; expected e.g. "http://127.0.0.1:9100/subscribe"
    hw.toml:7:1: subscriptions[0].hook_secret_file: missing; events come by the hook, which takes them from who has its secret: expected a file with at least 16 characters, e.g. hook_secret_file = "claims.secret"
    hw.toml:9:9: subscriptions[0].channel: this is for subscriptions of a gateway, and none is named; set gateway, or leave this out
    hw.toml:10:20: subscriptions[0].skip_blocks[1]: "3-1" is neither a block nor a range of blocks; expected e.g. "17", "100-120"
    hw.toml:10:27: subscriptions[0].skip_blocks[2]: 4 is not a text; expected a list of blocks and ranges, e.g. ["17", "100-120"]
    hw.toml:11:16: subscriptions[0].fields.block: "blockNumber" is not a JSON pointer; expected e.g. "/values/0/id", with ~1 for / and ~0 for ~ in names, or "" for all of it
    hw.toml:11:35: subscriptions[0].fields.key: "" is all of the event; expected the JSON pointer of a part, e.g. "/blockNumber"
    hw.toml:12:11: subscriptions[0].relevance: "some" is not a relevance; expected "all" or { attempts = 3, delay = "1s", window = 256 }
    hw.toml:13:9: subscriptions[0].handler: "nothing" is not a handler; expected one of handler = "table", [subscriptions.handler.http], [subscriptions.handler.command] or [subscriptions.handler.code]
    hw.toml:15:6: subscriptions[0].late: "never" is not known; expected "halt" or "process"
    hw.toml:16:9: subscriptions[0].silence: "1ms" is too short; expected 1s to 30days
    hw.toml:17:18: subscriptions[0].retry.attempts: 0 is out of range; expected 1 to 1000
    hw.toml:17:44: subscriptions[0].retry.max_delay: max_delay (1s) is below delay (10s); expected it to be at least that
    hw.toml:19:6: subscriptions[1].name: "a" is the name of subscriptions[0] already; expected a name of its own
    hw.toml:21:8: subscriptions[1].ledger: a gateway and a ledger are named, and a subscription has one source, whose order it keeps; keep one of them
    hw.toml:24:8: subscriptions[2].ledger: no [[ledgers]] has the name "y"; none is configured: add [[ledgers]] with name = "y"
    hw.toml:25:18: subscriptions[2].hook_secret_file: this is for events that come by the hook, and those of a ledger come by its stream; leave it out, or leave the ledger out
    hw.toml:26:8: subscriptions[2].window: this is for subscriptions of a gateway, and this one has a ledger; leave it out
    hw.toml:27:7: subscriptions[2].order: "ordinal" is for events that come by the hook; those of a ledger's stream come in order: expected "arrival"
    hw.toml:28:9: subscriptions[2].service: "s" is not a service; expected "CIRCUIT::SERVICE", e.g. "01234-ABCDE::gsAA"
    hw.toml:29:19: subscriptions[2].address_prefixes[0]: "XY" is not the beginning of an address; expected up to 70 lower case hex digits, e.g. "5b7349"
    hw.toml:30:1: subscriptions[2].handler: http and code are named, and a subscription has one handler, whose effects are in order; keep one
    hw.toml:31:12: subscriptions[2].handler.http.url: "h" is not an address (relative URL without a base); expected e.g. "http://127.0.0.1:9000/process"
    "#);
}

#[test]
fn what_is_asked_of_others_has_to_be_configured() {
    let asked = "channel='c'\nchaincode='c'\nevent_name='e'\nwindow=0";
    let ledgers = "[[ledgers]]\nname='saw'\nkind='sawtooth'\nurl='http://l'\n[[ledgers]]\nname='spl'\nkind='splinter'\nurl='http://l'\n";
    let text = [
        GATEWAY,
        ledgers,
        &hook("a", &format!("gateway='h'\n{asked}")),
        "[[subscriptions]]\nname='b'\ngateway='g'\n",
        "[[subscriptions]]\nname='c'\nledger='l'\n",
        "[[subscriptions]]\nname='d'\nledger='saw'\nservice='c::s'\n",
        "[[subscriptions]]\nname='e'\nledger='spl'\n",
        "[[subscriptions]]\nname='f'\n",
        &hook(
            "g",
            "handler.http={ secret_file='claims.secret' }\nsettle='1s'\nrelevance={ window=0, backoff=0.5, sql='drop' }",
        ),
    ];
    insta::assert_snapshot!(errors(&text.concat()), @r#"
    hw.toml:17:9: subscriptions[0].gateway: no [[gateways]] has the name "h"; those configured are g
    hw.toml:21:8: subscriptions[0].window: 0 is out of range; expected 1 to 9007199254740992
    hw.toml:22:1: subscriptions[1].channel: missing; expected the channel (channelName), e.g. channel = "dhlecomchannel"
    hw.toml:22:1: subscriptions[1].chaincode: missing; expected the contract (chaincodeName), e.g. chaincode = "businesscontract"
    hw.toml:22:1: subscriptions[1].event_name: missing; expected the event (eventName), e.g. event_name = "CLAIM_STATUS_CHANGE"
    hw.toml:27:8: subscriptions[2].ledger: no [[ledgers]] has the name "l"; those configured are saw, spl
    hw.toml:31:9: subscriptions[3].service: "c::s" is named, and the ledger "saw" is Sawtooth, which has no services; leave it out
    hw.toml:32:1: subscriptions[4].service: missing; the ledger "spl" is Splinter, whose events are a service's: expected e.g. service = "01234-ABCDE::gsAA"
    hw.toml:35:1: subscriptions[5].hook_secret_file: missing; events come by the hook, which takes them from who has its secret: expected a file with at least 16 characters, e.g. hook_secret_file = "claims.secret"
    hw.toml:40:14: subscriptions[6].handler.http.url: missing; expected where events are posted, e.g. url = "http://127.0.0.1:9000/process"
    hw.toml:41:8: subscriptions[6].settle: this is the quiet after which a block is taken as complete, for which only order = "ordinal" waits; set that, or leave this out
    hw.toml:42:20: subscriptions[6].relevance.window: 0 is out of range; expected 1 to 100000
    hw.toml:42:31: subscriptions[6].relevance.backoff: 0.5 is not a factor; expected 1.0 (the delay stays) to 10.0, e.g. 2.0 (it doubles)
    hw.toml:42:40: subscriptions[6].relevance.sql: "drop" is not a query; expected one SELECT with the parameters $1 (transaction id) and $2 (key), e.g. "SELECT 1 FROM orders WHERE tx_id = $1 OR claim = $2"
    "#);
}

#[test]
fn a_secret_that_says_it_is_base64_has_to_be() {
    let secret = |secret: &str| {
        let text = "[[subscriptions]]\nname='a'\n";
        let set = ("HIGHWATER_SUBSCRIPTIONS__A__HOOK_SECRET", secret);
        try_parse(text, &[set]).map_err(|errors| errors.to_string())
    };
    secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let told = secret("whsec_hunter2!hunter2!").unwrap_err();
    assert!(
        told.contains("what follows is not base64") && !told.contains("hunter2"),
        "{told}"
    );
}

#[test]
fn the_environment_and_control_set_limits_and_no_identities() {
    let environment = [
        ("HIGHWATER_SUBSCRIPTIONS__CLAIMS__RELEVANCE__ATTEMPTS", "7"),
        ("HIGHWATER_SUBSCRIPTIONS__0__SILENCE", "1h"),
        (
            "HIGHWATER_SUBSCRIPTIONS__CLAIMS__HANDLER__HTTP__SECRET",
            SECRET,
        ),
        ("HIGHWATER_GATEWAYS__CUSTOMS__TIMEOUT", "3s"),
    ];
    let first = loaded(ISSUE, &environment);
    let control = |key: &str, value: &str| {
        let set = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        first.with_control(set)
    };
    let claims = only(first.clone());
    assert_eq!(claims.silence, Duration::from_secs(3600));
    assert!(matches!(&claims.relevance, Relevance::Known(wait) if wait.attempts == 7));
    assert!(matches!(&claims.handler, EventHandlerSettings::Http(http) if http.secret.is_some()));

    let changed = control("subscriptions.claims.relevance.attempts", "9").unwrap();
    let diff = diff(&first.settings, &changed.settings);
    assert_eq!(diff.subscriptions_changed, ["claims"]);
    assert!(diff.secrets.is_empty() && diff.sections.is_empty());
    control("gateways.customs.timeout", "5s").unwrap();
    control("events.commit_rows", "5").unwrap();
    for closed in [
        "subscriptions.claims.name",
        "subscriptions.claims.gateway",
        "subscriptions.claims.channel",
        "subscriptions.claims.start_block",
        "subscriptions.claims.skip_blocks",
        "subscriptions.claims.hook_secret",
        "subscriptions.claims.hook_secret_file",
        "subscriptions.claims.fields.block",
        "subscriptions.claims.relevance",
        "subscriptions.claims.relevance.sql",
        "subscriptions.claims.order",
        "subscriptions.claims.handler",
        "subscriptions.claims.handler.http.url",
        "gateways.customs.url",
        "gateways.customs.callback_base",
        "gateways.customs.token_file",
    ] {
        let told = control(closed, "x").unwrap_err().to_string();
        assert!(
            told.contains("control") && !told.contains("unknown"),
            "{told}"
        );
    }
}

#[test]
fn a_reload_tells_what_was_added_removed_and_changed() {
    let secret = (
        "HIGHWATER_SUBSCRIPTIONS__B__HOOK_SECRET",
        "another-hunter2-hunter2",
    );
    let old = loaded(&[GATEWAY, &hook("a", ""), &hook("b", "")].concat(), &[]);
    let new = [&hook("c", ""), &hook("b", "")]
        .map(String::as_str)
        .concat();
    let new = loaded(&new, &[secret]);
    let told = diff(&old.settings, &new.settings);
    assert_eq!(told.gateways_removed, ["g"]);
    assert_eq!(told.subscriptions_added, ["c"]);
    assert_eq!(told.subscriptions_removed, ["a"]);
    assert_eq!(told.subscriptions_changed, ["b"]);
    assert_eq!(told.secrets, ["subscriptions.b.hook_secret"]);
    let before = old.keys().map(|(key, entry)| (key, entry.value.clone()));
    let keys = changed_keys(&before.collect(), &new, &told);
    for key in [
        "gateways.g",
        "subscriptions.a",
        "subscriptions.b.hook_secret",
    ] {
        assert!(keys.iter().any(|told| told == key), "{keys:?}");
    }
    for SubscriptionSettings { hook_secret, .. } in &new.settings.subscriptions {
        assert!(hook_secret.as_ref().unwrap().0.expose_secret().len() > 16);
    }
    assert!(!format!("{:?}", new.settings).contains("hunter2"));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_subscription_panics_and_every_dump_is_read_again(
            key in "(relevance|relevance.(attempts|backoff|sql)|handler|handler.(http|command|code)|handler.command.args|skip_blocks|order|late|fields|fields.block|ledger|gateway|window|retry)",
            value in "(\"[ -~]{0,12}\"|'(all|table|ordinal|process|/a)'|[0-9.]{1,4}|\\[('17'|'1-2'|1)?\\]|\\{ ?(block|attempts|http|args|timeout) = ('/a'|1|\\{\\}|nan|\\['x'\\]) ?\\}|\\{\\})",
        ) {
            let text = hook("a", &format!("{key} = {value}"));
            match try_parse(&text, &[]) {
                Ok(first) => {
                    let dumped = dump(&first);
                    let second = try_parse(&dumped, &[]);
                    prop_assert!(second.is_ok(), "{}\n{}", dumped, second.unwrap_err());
                    prop_assert_eq!(first.settings.subscriptions, second.unwrap().settings.subscriptions);
                }
                Err(errors) => prop_assert!(!errors.errors().is_empty()),
            }
        }
    }
}
