//! Whether what DNS says of our DKIM keys is what our keys are.

use relay_message::dkim::Signer;
use relay_message::dkim::record::{Weight, compare};
use relay_route::{Lookup, Resolver};

use crate::finding::Finding;

/// One line where the key is well, else one for each thing that is not.
pub async fn check(resolver: &dyn Resolver, signer: &Signer) -> Vec<Finding> {
    const CHECK: &str = "dkim";
    let name = signer.record_name();
    let published = match resolver.txt(&name).await {
        Lookup::Found(records) => records,
        Lookup::NoRecords | Lookup::NoSuchName => Vec::new(),
        Lookup::Trouble(words) => return vec![Finding::unknown(CHECK, &name, &words)],
    };
    let flaws = compare(&published, signer);
    if flaws.is_empty() {
        let found = format!("the {} key in DNS is ours", signer.kind());
        return vec![Finding::ok(CHECK, &name, found)];
    }
    let finding = |flaw: relay_message::dkim::record::Flaw| match flaw.weight {
        Weight::Void => Finding::fail(CHECK, &name, flaw.found, flaw.fix),
        Weight::Doubtful => Finding::warn(CHECK, &name, flaw.found, flaw.fix),
    };
    flaws.into_iter().map(finding).collect()
}
