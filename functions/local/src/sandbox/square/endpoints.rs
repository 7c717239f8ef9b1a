//! Square's lists as a table.

/// A list: its path, its collection, its filters and its orders.
pub(super) struct Endpoint {
    pub(super) path: &'static str,
    pub(super) collection: &'static str,
    pub(super) list_key: &'static str,
    pub(super) one_path: &'static str,
    pub(super) one_key: &'static str,
    pub(super) default: usize,
    pub(super) max: usize,
    pub(super) filters: &'static [&'static str],
    pub(super) sorts: &'static [&'static str],
}

const SHIFT_FILTERS: &[&str] =
    &["location_ids", "team_member_ids", "employee_ids", "status", "start", "end", "workday"];
const SHIFT_SORTS: &[&str] = &["START_AT", "END_AT", "CREATED_AT", "UPDATED_AT"];

pub(super) static SEARCHES: &[Endpoint] = &[
    Endpoint {
        path: "labor/timecards/search",
        collection: "timecards",
        list_key: "timecards",
        one_path: "labor/timecards/",
        one_key: "timecard",
        default: 200,
        max: 200,
        filters: SHIFT_FILTERS,
        sorts: SHIFT_SORTS,
    },
    Endpoint {
        path: "labor/shifts/search",
        collection: "timecards",
        list_key: "shifts",
        one_path: "labor/shifts/",
        one_key: "shift",
        default: 200,
        max: 200,
        filters: SHIFT_FILTERS,
        sorts: SHIFT_SORTS,
    },
    Endpoint {
        path: "team-members/search",
        collection: "team_members",
        list_key: "team_members",
        one_path: "team-members/",
        one_key: "team_member",
        default: 100,
        max: 200,
        filters: &["location_ids", "status", "is_owner"],
        sorts: &[],
    },
    Endpoint {
        path: "customers/search",
        collection: "customers",
        list_key: "customers",
        one_path: "customers/",
        one_key: "customer",
        default: 100,
        max: 100,
        filters: &["created_at", "updated_at", "creation_source", "email_address"],
        sorts: &["DEFAULT", "CREATED_AT"],
    },
    Endpoint {
        path: "orders/search",
        collection: "orders",
        list_key: "orders",
        one_path: "orders/",
        one_key: "order",
        default: 500,
        max: 1000,
        filters: &["date_time_filter", "state_filter"],
        sorts: &["CREATED_AT", "UPDATED_AT", "CLOSED_AT"],
    },
    Endpoint {
        path: "catalog/search",
        collection: "catalog",
        list_key: "objects",
        one_path: "catalog/object/",
        one_key: "object",
        default: 100,
        max: 1000,
        filters: &[],
        sorts: &[],
    },
];

pub(super) static GETS: &[Endpoint] = &[
    Endpoint {
        path: "payments",
        collection: "payments",
        list_key: "payments",
        one_path: "payments/",
        one_key: "payment",
        default: 100,
        max: 100,
        filters: &[],
        sorts: &["CREATED_AT", "UPDATED_AT"],
    },
    Endpoint {
        path: "customers",
        collection: "customers",
        list_key: "customers",
        one_path: "customers/",
        one_key: "customer",
        default: 100,
        max: 100,
        filters: &[],
        sorts: &["DEFAULT", "CREATED_AT"],
    },
    Endpoint {
        path: "locations",
        collection: "locations",
        list_key: "locations",
        one_path: "locations/",
        one_key: "location",
        default: 1000,
        max: 1000,
        filters: &[],
        sorts: &[],
    },
];
