//! Whose rows a transaction of the API or of an operator may see: the second fence (design §5).
//!
//! The services work as `posto_worker`, which sees every tenant's rows; what answers somebody from
//! outside is read in a transaction that takes on `posto_reader` and says for whom. Row-level security
//! then hides everybody else's rows, whatever a query forgot to ask. Both end with the transaction.

use sqlx::{AssertSqlSafe, PgPool, PgTransaction};

use super::StoreResult;
use crate::domain::ids::TenantId;

/// Whose rows may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every tenant's, and those that are nobody's: the agency's own people and systems.
    Agency,
    /// Those of these tenants.
    Tenants(Vec<i64>),
}

impl Scope {
    /// The scope of a caller that is bound to these tenants; bound to none, it speaks for the agency.
    #[must_use]
    pub fn of(tenants: &[TenantId]) -> Self {
        if tenants.is_empty() {
            Self::Agency
        } else {
            Self::Tenants(tenants.iter().map(|tenant| tenant.0).collect())
        }
    }

    /// As `hub.tenants` has it. Numbers and punctuation only, so that it may stand in a statement.
    fn setting(&self) -> String {
        match self {
            Self::Agency => "*".to_owned(),
            Self::Tenants(tenants) => {
                let numbers: Vec<String> = tenants.iter().map(i64::to_string).collect();
                format!("{{{}}}", numbers.join(","))
            }
        }
    }

    /// Begins a transaction that reads in this scope, and cannot write. It ends when it is dropped.
    ///
    /// # Errors
    /// See [`super::StoreError`].
    pub async fn read(&self, pool: &PgPool) -> StoreResult<PgTransaction<'static>> {
        self.begin(pool, "begin read only").await
    }

    /// Begins a transaction that reads and writes in this scope. Nothing is kept unless it is committed.
    ///
    /// # Errors
    /// See [`super::StoreError`].
    pub async fn write(&self, pool: &PgPool) -> StoreResult<PgTransaction<'static>> {
        self.begin(pool, "begin").await
    }

    /// One round trip: the three statements go as one simple query.
    async fn begin(&self, pool: &PgPool, begin: &str) -> StoreResult<PgTransaction<'static>> {
        let statements = format!(
            "{begin}; set local role posto_reader; set local hub.tenants = '{}'",
            self.setting()
        );
        Ok(pool.begin_with(AssertSqlSafe(statements)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_bound_to_no_tenant_speaks_for_the_agency_and_a_bound_one_for_its_tenants_alone() {
        assert_eq!(Scope::of(&[]), Scope::Agency);
        assert_eq!(Scope::Agency.setting(), "*");
        let bound = Scope::of(&[TenantId(7), TenantId(12)]);
        assert_eq!(bound.setting(), "{7,12}");
        // An empty list can only be made by hand, and is nobody's.
        assert_eq!(Scope::Tenants(Vec::new()).setting(), "{}");
    }
}
