//! Reads the rule of a router as Traefik 3 does, to say before the merge what Traefik would say by a missing route.
//!
//! Expressions inside of it are Go's, and are not looked at.

/// The matchers of http routers, and how many values each takes.
const HTTP: [(&str, &[usize]); 11] = [
    ("ClientIP", &[1]),
    ("Header", &[2]),
    ("HeaderRegexp", &[2]),
    ("Host", &[1]),
    ("HostRegexp", &[1]),
    ("Method", &[1]),
    ("Path", &[1]),
    ("PathPrefix", &[1]),
    ("PathRegexp", &[1]),
    ("Query", &[1, 2]),
    ("QueryRegexp", &[1, 2]),
];

/// The matchers of tcp routers.
const TCP: [(&str, &[usize]); 4] = [("ALPN", &[1]), ("ClientIP", &[1]), ("HostSNI", &[1]), ("HostSNIRegexp", &[1])];

/// Why Traefik would not take this rule.
pub fn flaw(rule: &str, protocol: &str) -> Option<String> {
    let matchers = if protocol == "tcp" { &TCP[..] } else { &HTTP[..] };
    let mut reading = Reading { rest: rule, matchers };
    let read = reading.either();
    read.and_then(|()| if reading.rest.is_empty() { Ok(()) } else { Err(reading.unexpected()) }).err()
}

struct Reading<'a> {
    rest: &'a str,
    matchers: &'a [(&'a str, &'a [usize])],
}

impl<'a> Reading<'a> {
    /// Whether the next thing is this; then it is passed.
    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn unexpected(&self) -> String {
        match self.rest.trim() {
            "" => "it ends too early".to_owned(),
            rest => format!("`{}` is not expected there", rest.chars().take(20).collect::<String>()),
        }
    }

    fn either(&mut self) -> Result<(), String> {
        self.both()?;
        while self.take("||") {
            self.both()?;
        }
        Ok(())
    }

    fn both(&mut self) -> Result<(), String> {
        self.one()?;
        while self.take("&&") {
            self.one()?;
        }
        Ok(())
    }

    fn one(&mut self) -> Result<(), String> {
        if self.take("!") {
            return self.one();
        }
        if self.take("(") {
            self.either()?;
            return if self.take(")") { Ok(()) } else { Err("a `)` is missing".to_owned()) };
        }
        self.matcher()
    }

    fn matcher(&mut self) -> Result<(), String> {
        let rest = self.rest.trim_start();
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (name, after) = rest.split_at(length);
        if name.is_empty() {
            return Err(self.unexpected());
        }
        let known = self.matchers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((name, counts)) = known else {
            let names: Vec<&str> = self.matchers.iter().map(|(known, _)| *known).collect();
            return Err(format!("there is no matcher `{name}`{}", crate::decide::mistake::meant(name, &names)));
        };
        self.rest = after;
        if !self.take("(") {
            return Err(format!("`{name}` needs a value in parentheses"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value(name)?);
            if !self.take(",") {
                break;
            }
        }
        if !self.take(")") {
            return Err(format!("the `)` of `{name}` is missing"));
        }
        if !counts.contains(&values.len()) {
            let wanted = counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
            return Err(format!("`{name}` takes {wanted} values, not {}", values.len()));
        }
        if ["Path", "PathPrefix"].contains(name) && !values[0].starts_with('/') {
            return Err(format!("the value of `{name}` must begin with `/`"));
        }
        Ok(())
    }

    /// A text in backticks or double quotes.
    fn value(&mut self, name: &str) -> Result<&'a str, String> {
        for quote in ['`', '"'] {
            if let Some(rest) = self.rest.strip_prefix(quote) {
                let (value, rest) =
                    rest.split_once(quote).ok_or_else(|| format!("a quote of `{name}` is not closed"))?;
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(format!("the value of `{name}` must stand in backticks"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_traefik_takes_have_no_flaw() {
        for rule in [
            "Host(`a.example.org`)",
            "Host(`a`) && (Path(`/a`) || !Query(`b`, `c`)) && ClientIP(`10.0.0.0/8`)",
            "HostRegexp(`^.+\\.example\\.org$`)||PathPrefix(\"/x\")",
            "host(`a`) && HEADER(`X-A`, `b`)",
            "!(Method(`GET`))",
        ] {
            assert_eq!(flaw(rule, "http"), None, "{rule}");
        }
        assert_eq!(flaw("HostSNI(`*`) && ALPN(`h2`)", "tcp"), None);
    }

    #[test]
    fn rules_that_it_does_not_take_have_a_reason() {
        for (rule, reason) in [
            ("Host(`a`", "the `)` of `Host` is missing"),
            ("Host(a)", "backticks"),
            ("Host(`a`, `b`)", "takes 1 values, not 2"),
            ("Hots(`a`)", "no matcher `Hots` (did you mean `Host`?)"),
            ("Host(`a`) Path(`/`)", "`Path(`/`)` is not expected there"),
            ("Host(`a`) && ", "ends too early"),
            ("(Host(`a`)", "a `)` is missing"),
            ("Path(`a`)", "must begin with `/`"),
            ("Host:a", "parentheses"),
            ("Host(`a)", "not closed"),
            ("HostSNI(`a`)", "no matcher"),
        ] {
            let found = flaw(rule, "http").unwrap_or_else(|| panic!("{rule} has no flaw"));
            assert!(found.contains(reason), "{rule}: {found}");
        }
    }
}
