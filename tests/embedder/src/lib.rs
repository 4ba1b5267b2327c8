//! The core without I/O, and with the feature `net` its sockets: that they build, and work, without the features above.

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sayagain::client::Event;
    use sayagain::config::{ClientConfig, ServerConfig, Transport};
    use sayagain::link::LinkConfig;
    use sayagain::reliable::{Backoff, Growth, Outcome};
    use sayagain::sim::Sim;
    use sayagain::units::Factor;

    #[test]
    fn the_core_alone_delivers_under_30_percent_loss() {
        let lossy = || "iid:.3".parse::<LinkConfig>().unwrap();
        let mut sim = Sim::new(Instant::now(), ServerConfig::default(), lossy(), lossy(), 7);
        let policy = Backoff::new(Duration::from_millis(100))
            .with_growth(Growth::Exponential { factor: Factor::TWO })
            .with_max_sends(12);
        let ada = sim.add_client(ClientConfig::new(Transport::Datagram, Some("ada"), policy));
        let sent: Vec<_> = (0..50).map(|n| sim.client(ada).send(b"ada", format!("{n}").as_bytes())).collect();
        sim.run_until_idle(Duration::from_secs(600));
        let (mut heard, mut acked) = (Vec::new(), 0);
        for event in sim.take_events(ada) {
            match event {
                Event::Message { body, .. } => heard.push(String::from_utf8(body).unwrap()),
                Event::Ended(ended)
                    if sent.contains(&ended.ticket) && matches!(ended.outcome, Outcome::Acked(_)) =>
                {
                    acked += 1
                }
                _ => {}
            }
        }
        assert_eq!(acked, sent.len());
        assert!(heard.iter().eq((0..50).map(|n| n.to_string()).collect::<Vec<_>>().iter()), "{heard:?}");
    }

    #[cfg(feature = "net")]
    #[test]
    fn a_handler_echoes_over_a_socket() {
        use std::io::{Read as _, Write as _};

        use sayagain::host::{Context, Handler, Settings};
        use sayagain::net::Engine;
        use sayagain::service::ConnId;

        struct Echo;

        impl Handler for Echo {
            fn received(&mut self, cx: &mut Context<'_>, conn: ConnId, bytes: &[u8]) -> usize {
                let _ = cx.send(conn, bytes);
                bytes.len()
            }
        }

        let engine = Engine::host(&["raw://127.0.0.1:0"], Settings::default(), Echo).unwrap();
        let addr = engine.listen_addrs()[0].to_string();
        let mut peer = std::net::TcpStream::connect(addr.trim_start_matches("raw://")).unwrap();
        peer.write_all(b"again").unwrap();
        let mut echo = [0; 5];
        peer.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"again");
    }
}
