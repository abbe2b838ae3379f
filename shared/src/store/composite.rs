//! Rows that a statement takes as one array of a composite type of the schema, borrowed from what they
//! are made of: `unnest` of an array for each column costs PostgreSQL more than the rows do.
//!
//! A row derives [`sqlx::Encode`], with its fields in the order of the type's.

/// Says that `$row` is written as the composite type `$name`, alone and in arrays.
macro_rules! composite {
    ($row:ty, $name:literal) => {
        impl sqlx::Type<sqlx::Postgres> for $row {
            fn type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::with_name($name)
            }
        }

        impl sqlx::postgres::PgHasArrayType for $row {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                sqlx::postgres::PgTypeInfo::array_of($name)
            }
        }
    };
}

pub(super) use composite;
