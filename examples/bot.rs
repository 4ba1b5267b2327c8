//! A chat bot: `cargo run --example bot -- HOST:PORT [NAME]`. It answers `!echo TEXT`, `!who` and `!quit`, in `#lobby`
//! or in a direct message.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it hears")]

use std::error::Error;
use std::process::ExitCode;

use futures::StreamExt as _;
use sayagain::client::Names;
use sayagain::escape::escape;
use sayagain::net::client::{Client, Event};
use sayagain::reliable::Outcome;

const ROOM: &str = "#lobby";
const USAGE: &str = "I am a bot: say !echo TEXT, !who or !quit";

fn main() -> ExitCode {
    match futures::executor::block_on(run(std::env::args().skip(1))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let url =
        args.next().ok_or("say where the server is: tcp://HOST:PORT, udp://HOST:PORT or unix:///PATH")?;
    let name = args.next().unwrap_or_else(|| "bot".to_owned());
    let (client, mut events) = Client::builder(url).name(name).connect().await?;
    for outcome in [client.join(ROOM).await, client.send(ROOM, USAGE).await] {
        println!("* {outcome:?}");
    }
    while let Some(event) = events.next().await {
        let Event::Message { sender, room, body } = event else {
            println!("* {event:?}");
            continue;
        };
        println!("{sender}{}> {}", room.as_deref().unwrap_or(""), escape(&body));
        let answer = match String::from_utf8_lossy(&body).trim_end().split_once(' ') {
            Some(("!echo", text)) => text.to_owned(),
            None if body.starts_with(b"!who") => who(&client).await,
            None if body.starts_with(b"!quit") => break,
            _ => continue,
        };
        // To the room or the sender; an answer to a sender that has left is not needed.
        client.send(room.as_deref().unwrap_or(&sender), answer).await;
    }
    println!("* {:?}", client.close().await.closed);
    Ok(())
}

async fn who(client: &Client) -> String {
    match client.list(Some(ROOM)).await {
        Outcome::Acked(list) => escape(&Names::read(&list).names.join(&b' ')).into_owned(),
        other => format!("I cannot tell: {other:?}"),
    }
}
