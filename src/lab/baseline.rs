//! Connection patterns of the baseline, the server of `lab baseline` that only moves bytes: which connection receives
//! which bytes.
//!
//! Not here: the sockets, which are in `lab::sockets::baseline`.

/// The task of the baseline with the bytes that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// TCP: every connection gets its own bytes back.
    Echo,
    /// UDP: every datagram goes back to its source.
    EchoUdp,
    /// TCP: the first and the second connection get each other's bytes, so do the third and the fourth, and so on.
    Relay,
    /// TCP: all others get what the first connection sends; what they send is discarded.
    Fan,
}

/// The target of a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This connection.
    One(usize),
    /// All of [`Wiring::members`].
    Members,
    /// No target yet: the bytes stay unread.
    Later,
    /// None: the bytes are read and discarded.
    Nowhere,
}

/// Pairs each connection with its target. A connection is a small number that is reused after its close.
#[derive(Debug)]
pub(crate) struct Wiring {
    pattern: Pattern,
    partners: Vec<Option<usize>>,
    /// The connection that still lacks a partner.
    single: Option<usize>,
    /// The connection that feeds all others.
    first: Option<usize>,
    members: Vec<usize>,
}

impl Wiring {
    /// Creates a wiring without connections.
    #[must_use]
    pub(crate) const fn new(pattern: Pattern) -> Self {
        Self { pattern, partners: Vec::new(), single: None, first: None, members: Vec::new() }
    }

    /// Adds a connection. Returns the connection whose bytes have a target from now on.
    pub(crate) fn opened(&mut self, key: usize) -> Option<usize> {
        match self.pattern {
            Pattern::Relay => {
                let partner = self.single.take();
                match partner {
                    Some(partner) => self.wire(key, partner),
                    None => self.single = Some(key),
                }
                return partner;
            }
            Pattern::Fan if self.first.is_some() => self.members.push(key),
            Pattern::Fan => self.first = Some(key),
            Pattern::Echo | Pattern::EchoUdp => {}
        }
        None
    }

    fn wire(&mut self, one: usize, other: usize) {
        let needed = one.max(other) + 1;
        if self.partners.len() < needed {
            self.partners.resize(needed, None);
        }
        for (from, to) in [(one, other), (other, one)] {
            if let Some(partner) = self.partners.get_mut(from) {
                *partner = Some(to);
            }
        }
    }

    /// Removes a connection. Returns those that have lost their source: they are closed once their pending bytes are
    /// written.
    pub(crate) fn closed(&mut self, key: usize) -> Vec<usize> {
        self.single.take_if(|single| *single == key);
        if self.first.take_if(|first| *first == key).is_some() {
            return std::mem::take(&mut self.members);
        }
        self.members.retain(|member| *member != key);
        let partner = self.partners.get_mut(key).and_then(Option::take);
        if let Some(partner) = partner {
            self.partners.get_mut(partner).and_then(Option::take);
        }
        partner.into_iter().collect()
    }

    /// Returns the target of a connection's bytes.
    #[must_use]
    pub(crate) fn target(&self, key: usize) -> Target {
        match self.pattern {
            Pattern::Echo | Pattern::EchoUdp => Target::One(key),
            Pattern::Relay => self.partner(key).map_or(Target::Later, Target::One),
            Pattern::Fan if self.first == Some(key) => Target::Members,
            Pattern::Fan => Target::Nowhere,
        }
    }

    /// Returns the connection whose bytes a connection receives.
    #[must_use]
    pub(crate) fn source(&self, key: usize) -> Option<usize> {
        match self.pattern {
            Pattern::Echo | Pattern::EchoUdp => Some(key),
            Pattern::Relay => self.partner(key),
            Pattern::Fan => self.first,
        }
    }

    fn partner(&self, key: usize) -> Option<usize> {
        self.partners.get(key).copied().flatten()
    }

    /// Returns the connections that receive the bytes of the first.
    #[must_use]
    pub(crate) fn members(&self) -> &[usize] {
        &self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_goes_to_its_own_connection() {
        let mut wiring = Wiring::new(Pattern::Echo);
        assert_eq!(wiring.opened(3), None);
        assert_eq!((wiring.target(3), wiring.source(3)), (Target::One(3), Some(3)));
        assert!(wiring.closed(3).is_empty());
    }

    #[test]
    fn connections_are_paired_in_the_order_in_which_they_come() {
        let mut wiring = Wiring::new(Pattern::Relay);
        assert_eq!(wiring.opened(0), None);
        assert_eq!(wiring.target(0), Target::Later);
        assert_eq!(wiring.opened(1), Some(0));
        assert_eq!((wiring.target(0), wiring.target(1)), (Target::One(1), Target::One(0)));
        assert_eq!(wiring.opened(2), None);
        assert_eq!(wiring.source(2), None);
    }

    #[test]
    fn a_connection_without_its_partner_is_reported_and_gets_no_other() {
        let mut wiring = Wiring::new(Pattern::Relay);
        wiring.opened(0);
        wiring.opened(1);
        assert_eq!(wiring.closed(0), [1]);
        assert_eq!(wiring.opened(0), None, "the number is free again, the old partner is not");
        assert_eq!((wiring.target(0), wiring.target(1)), (Target::Later, Target::Later));
        assert!(wiring.closed(1).is_empty());
    }

    #[test]
    fn a_connection_that_closes_before_it_is_paired_is_forgotten() {
        let mut wiring = Wiring::new(Pattern::Relay);
        wiring.opened(0);
        assert!(wiring.closed(0).is_empty());
        assert_eq!(wiring.opened(1), None);
        assert_eq!(wiring.opened(0), Some(1));
    }

    #[test]
    fn the_first_connection_feeds_all_others_and_its_close_closes_them() {
        let mut wiring = Wiring::new(Pattern::Fan);
        (0..4).for_each(|key| assert_eq!(wiring.opened(key), None));
        assert_eq!((wiring.target(0), wiring.target(2)), (Target::Members, Target::Nowhere));
        assert!(wiring.closed(2).is_empty());
        assert_eq!(wiring.members(), [1, 3]);
        assert_eq!(wiring.source(3), Some(0));
        assert_eq!(wiring.closed(0), [1, 3]);
        assert_eq!(wiring.source(3), None);
        wiring.opened(2);
        assert_eq!((wiring.target(2), wiring.members()), (Target::Members, &[][..]));
    }
}
