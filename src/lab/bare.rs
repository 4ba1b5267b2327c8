//! Who gets what in the least of servers, `lab bare`: its patterns, and who is wired to whom.
//!
//! Not here: the sockets, which are in `lab::sockets::bare`.

use clap::ValueEnum;

/// What a bare server does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    /// TCP: every connection gets its own bytes back
    Echo,
    /// UDP: every datagram goes back to where it came from
    EchoUdp,
    /// TCP: the first and the second connection get each other's bytes, so do the third and the fourth, and so on
    Relay,
    /// TCP: all others get what the first connection sends; what they send is thrown away
    Fan,
}

/// Where a connection's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this one.
    One(usize),
    /// To all of [`Wiring::members`].
    Members,
    /// Nowhere yet: they are left where they are.
    Later,
    /// Nowhere: they are read and thrown away.
    Nowhere,
}

/// Who is wired to whom. A connection is a small number, free again once it is closed.
#[derive(Debug)]
pub struct Wiring {
    pattern: Pattern,
    partners: Vec<Option<usize>>,
    /// Whose partner is still to come.
    single: Option<usize>,
    /// Who feeds the others.
    first: Option<usize>,
    members: Vec<usize>,
}

impl Wiring {
    /// Nobody is there yet.
    #[must_use]
    pub const fn new(pattern: Pattern) -> Self {
        Self { pattern, partners: Vec::new(), single: None, first: None, members: Vec::new() }
    }

    /// A connection comes. Returns whose bytes have a target from now on.
    pub fn opened(&mut self, key: usize) -> Option<usize> {
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

    /// A connection goes. Returns whom nobody feeds any more because of that: they are to go too, once they have what is theirs.
    pub fn closed(&mut self, key: usize) -> Vec<usize> {
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

    /// Where the bytes of a connection go.
    #[must_use]
    pub fn target(&self, key: usize) -> Target {
        match self.pattern {
            Pattern::Echo | Pattern::EchoUdp => Target::One(key),
            Pattern::Relay => self.partner(key).map_or(Target::Later, Target::One),
            Pattern::Fan if self.first == Some(key) => Target::Members,
            Pattern::Fan => Target::Nowhere,
        }
    }

    /// Whose bytes a connection gets.
    #[must_use]
    pub fn source(&self, key: usize) -> Option<usize> {
        match self.pattern {
            Pattern::Echo | Pattern::EchoUdp => Some(key),
            Pattern::Relay => self.partner(key),
            Pattern::Fan => self.first,
        }
    }

    fn partner(&self, key: usize) -> Option<usize> {
        self.partners.get(key).copied().flatten()
    }

    /// Who gets what the first one sends.
    #[must_use]
    pub fn members(&self) -> &[usize] {
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
    fn who_loses_a_partner_is_told_of_and_gets_no_other() {
        let mut wiring = Wiring::new(Pattern::Relay);
        wiring.opened(0);
        wiring.opened(1);
        assert_eq!(wiring.closed(0), [1]);
        assert_eq!(wiring.opened(0), None, "the number is free again, the old partner is not");
        assert_eq!((wiring.target(0), wiring.target(1)), (Target::Later, Target::Later));
        assert!(wiring.closed(1).is_empty());
    }

    #[test]
    fn who_waits_for_a_partner_and_goes_is_waited_for_no_more() {
        let mut wiring = Wiring::new(Pattern::Relay);
        wiring.opened(0);
        assert!(wiring.closed(0).is_empty());
        assert_eq!(wiring.opened(1), None);
        assert_eq!(wiring.opened(0), Some(1));
    }

    #[test]
    fn the_first_feeds_all_others_and_takes_them_with_it() {
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
