//! `ramp serve`: this machine's device for runs on other machines, through Burn's remote devices.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};

use super::{
    device::DeviceArg,
    failure::{Failure, Result},
    output,
    token::Token,
};

/// Arguments of `ramp serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The device to serve: cpu, or cuda:N in a build with --features cuda.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceArg,
    /// Address and port to listen on; port 0 takes a free one, which is printed. What is sent is not encrypted: beyond this
    /// machine, listen on a network that you trust, or tunnel it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// File whose text a client must know; without it, the variable RAMP_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Runs the command until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the device, the token or the address cannot be used.
pub(crate) fn run(args: &Args) -> Result {
    let token = Token::required(args.token_file.as_deref())?;
    if matches!(args.device, DeviceArg::Remote(_)) {
        return Err(Failure::User(format!(
            "--device {}: only a device of this machine is served",
            args.device
        )));
    }
    let device = args.device.open(None)?;
    let refused = |why: &dyn std::fmt::Display| Failure::User(format!("--listen {}: {why}", args.listen));
    let listener = TcpListener::bind(args.listen).map_err(|why| refused(&why))?;
    let address = listener.local_addr().map_err(|why| refused(&why))?;
    let authorizer = TokenAuthorizer::new(token.text()).map_err(|why| Failure::User(why.to_string()))?;
    // Whoever starts a server waits for this line.
    output::print(&format!("serving {} at ws://{address}\n", args.device))?;
    RemoteServer::new([device])
        .with_authorizer(authorizer)
        .serve(WebSocketTransport::from_listener(listener))
        .map_err(|why| Failure::Device(format!("serving {}: {why}", args.device)))
}
