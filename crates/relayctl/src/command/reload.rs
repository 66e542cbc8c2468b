//! `relayctl reload`.

use relay_admin::view::Reloaded;

use crate::client::Client;
use crate::outcome::{Done, Outcome};

pub async fn run(client: &Client) -> Outcome {
    let nothing = serde_json::json!({});
    let reloaded: Reloaded = client.post("/v1/reload", &nothing).await?;
    for warning in &reloaded.warnings {
        eprintln!("warning: {warning}");
    }
    println!("reloaded");
    Ok(Done::Well)
}
