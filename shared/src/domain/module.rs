//! PixelHub's modules and who serves them: the switch by which one is moved to Posto, and back.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::ids::TenantId;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $error:ident, $wrong:literal, $($(#[$variant_doc:meta])* $variant:ident = $text:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text in rows, labels, commands and answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[doc = concat!("The text is none of `", stringify!($name), "`: take one that it names.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($wrong)]
        pub struct $error;

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or($error)
            }
        }
    };
}

words!(
    /// A part of PixelHub that can be moved by itself: the addresses under one path.
    Module, UnknownModule, "a module is chat or tenants",
    /// `/chat/*`
    Chat = "chat";
    /// `/tenants/whatsapp-*`
    Tenants = "tenants";
);

words!(
    /// Who serves a module.
    Mode, UnknownMode, "a mode is live, shadow or off",
    /// Posto.
    Live = "live";
    /// Posto, and nothing of it leaves: what would have is kept as `simulated`.
    Shadow = "shadow";
    /// PixelHub: requests are passed on.
    Off = "off";
);

/// The switches as they stand. A module that nobody switched is live: where there is no PixelHub, the
/// addresses are Posto's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches(HashMap<(Module, Option<TenantId>), Mode>);

impl Switches {
    /// Who serves a module for a tenant: its own switch, else the one for all, else Posto.
    #[must_use]
    pub fn mode(&self, module: Module, tenant: Option<TenantId>) -> Mode {
        let own = tenant.and_then(|tenant| self.0.get(&(module, Some(tenant))));
        let all = || self.0.get(&(module, None));
        own.or_else(all).copied().unwrap_or(Mode::Live)
    }

    /// Whether it matters for a module whose request it is.
    #[must_use]
    pub fn has_exceptions(&self, module: Module) -> bool {
        let mut keys = self.0.keys();
        keys.any(|(own, tenant)| *own == module && tenant.is_some())
    }
}

impl FromIterator<(Module, Option<TenantId>, Mode)> for Switches {
    fn from_iter<T: IntoIterator<Item = (Module, Option<TenantId>, Mode)>>(rows: T) -> Self {
        let rows = rows.into_iter();
        Self(
            rows.map(|(module, tenant, mode)| ((module, tenant), mode))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_own_switch_comes_before_the_one_for_all_and_none_is_live() {
        let switches: Switches = [
            (Module::Chat, None, Mode::Off),
            (Module::Chat, Some(TenantId(7)), Mode::Shadow),
        ]
        .into_iter()
        .collect();
        for (module, tenant, mode) in [
            (Module::Chat, None, Mode::Off),
            (Module::Chat, Some(1), Mode::Off),
            (Module::Chat, Some(7), Mode::Shadow),
            (Module::Tenants, None, Mode::Live),
            (Module::Tenants, Some(7), Mode::Live),
        ] {
            let tenant = tenant.map(TenantId);
            assert_eq!(switches.mode(module, tenant), mode, "{module} {tenant:?}");
        }
        assert!(switches.has_exceptions(Module::Chat));
        assert!(!switches.has_exceptions(Module::Tenants));
    }

    #[test]
    fn every_word_reads_back_and_others_do_not() {
        for module in Module::ALL {
            assert_eq!(module.as_str().parse(), Ok(*module));
        }
        for mode in Mode::ALL {
            assert_eq!(mode.as_str().parse(), Ok(*mode));
        }
        assert_eq!("Live".parse::<Mode>(), Err(UnknownMode));
        assert_eq!("".parse::<Module>(), Err(UnknownModule));
    }
}
