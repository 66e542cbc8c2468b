//! Connections to DNS servers over which every question carries the AD bit: "say whether you have
//! validated this" (RFC 6840 section 5.7). Without it servers leave the bit of the answer unset.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle};
use hickory_resolver::proto::op::DnsRequest;
use hickory_resolver::{ConnectionProvider, PoolContext};

/// Tokio's connections, each wrapped.
#[derive(Clone)]
pub(crate) struct AskingForProof(TokioRuntimeProvider);

impl AskingForProof {
    pub(crate) fn new(connections: TokioRuntimeProvider) -> AskingForProof {
        AskingForProof(connections)
    }
}

impl ConnectionProvider for AskingForProof {
    type Conn = Exchange;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Exchange, NetError>> + Send>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let connecting = self.0.new_connection(ip, config, context)?;
        Ok(Box::pin(async move { connecting.await.map(Exchange) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.0
    }
}

/// One connection.
#[derive(Clone)]
pub(crate) struct Exchange(DnsExchange<TokioRuntimeProvider>);

impl DnsHandle for Exchange {
    type Response = <DnsExchange<TokioRuntimeProvider> as DnsHandle>::Response;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        // Not the DO bit: signatures would make answers large, and nobody here reads them.
        request.metadata.authentic_data = true;
        self.0.send(request)
    }
}
