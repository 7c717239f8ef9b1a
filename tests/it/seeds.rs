//! The bodies that users of the original know, each accepted as printed, each resource telling what becomes of a
//! record.

use std::time::Duration;

use serde_json::{Value, json};
use tests::world::{World, seed};

/// A record that comes, changes and goes, and the events that tell of it.
struct Life {
    element: &'static str,
    collection: &'static str,
    born: Value,
    changed: Value,
    /// Member of the record that holds its id in the sandbox.
    id: &'static str,
    /// Names in `event.poller.configuration` that tell of it.
    told_by: &'static [&'static str],
    /// The vendor, or a complete listing, can tell that it is gone.
    goes: bool,
}

fn lives() -> Vec<Life> {
    let life = |element, collection, born, changed, id, told_by| Life {
        element,
        collection,
        born,
        changed,
        id,
        told_by,
        goes: true,
    };
    vec![
        life(
            "square",
            "timecards",
            json!({"team_member_id": "TM1"}),
            json!({"status": "CLOSED"}),
            "id",
            &["timesheets"],
        ),
        life(
            "maximizer",
            "AbEntry",
            json!({"Type": "Contact", "FirstName": "Ada", "LastName": "Ng"}),
            json!({"FirstName": "Ida"}),
            "Key",
            &["contacts", "addressbook-entries"],
        ),
        life(
            "maximizer",
            "AbEntry",
            json!({"Type": "Company", "CompanyName": "Acme"}),
            json!({"CompanyName": "Acme Ltd"}),
            "Key",
            &["companies", "addressbook-entries"],
        ),
        life(
            "maximizer",
            "Opportunity",
            json!({"Objective": "Renew"}),
            json!({"Objective": "Win"}),
            "Key",
            &["opportunities"],
        ),
        life(
            "googlesuite",
            "events",
            json!({"summary": "Review"}),
            json!({"summary": "Retro"}),
            "id",
            &["calendars/primary/changed-events", "calendars/{calendarId}/changed-events"],
        ),
        life(
            "googlesuite",
            "contactGroups",
            json!({"name": "Friends"}),
            json!({"name": "Best"}),
            "resourceName",
            &["changed-groups"],
        ),
        life(
            "googlesuite",
            "messages",
            json!({"snippet": "Hi"}),
            json!({"labelIds": ["INBOX", "STARRED"]}),
            "id",
            &["changed-messages"],
        ),
        life(
            "revel",
            "TimeSheetEntry",
            json!({"role_name": "Cook"}),
            json!({"role_name": "Chef"}),
            "id",
            &["timesheets"],
        ),
        Life {
            goes: false,
            ..life(
                "revel",
                "Employee",
                json!({"first_name": "Ada"}),
                json!({"first_name": "Ida"}),
                "id",
                &["employees"],
            )
        },
        life(
            "icontact",
            "contacts",
            json!({"email": "a@example.com"}),
            json!({"firstName": "Ada"}),
            "contactId",
            &["contacts"],
        ),
        Life {
            goes: false,
            ..life(
                "icontact",
                "messages",
                json!({"subject": "News"}),
                json!({"subject": "More"}),
                "messageId",
                &["message"],
            )
        },
    ]
}

#[tokio::test]
async fn every_resource_of_every_seed_tells_what_becomes_of_a_record() {
    let mut wrong = Vec::new();
    for life in lives() {
        let world = World::new("2026-01-05T09:00:00Z").await;
        world.sandbox.create(life.element, life.collection, life.born.clone()).expect("a record from before");
        world.skip(Duration::from_secs(7200)).await;
        world.create(seed(life.element)).await;
        world.tick().await;

        let record = world.sandbox.create(life.element, life.collection, life.born.clone()).expect("a record");
        let id = match &record[life.id] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        world.advance(Duration::from_secs(120)).await;
        let own = id.rsplit('/').next().unwrap_or(&id).to_owned();
        let own = if life.element == "maximizer" { id.clone() } else { own };
        world.sandbox.update(life.element, life.collection, &own, life.changed.clone()).expect("the record");
        world.advance(Duration::from_secs(120)).await;
        if life.goes {
            world.sandbox.destroy(life.element, life.collection, &own).expect("the record");
            world.skip(Duration::from_secs(25 * 3600)).await;
        }
        let object_id = own;
        let steps: &[&str] = if life.goes { &["CREATED", "UPDATED", "DELETED"] } else { &["CREATED", "UPDATED"] };
        let mut wanted: Vec<String> = Vec::new();
        for name in life.told_by {
            wanted.extend(steps.iter().zip(1..).map(|(step, n)| format!("{step} {name} {object_id} #{n}")));
        }
        let mut told = world.events();
        told.sort();
        wanted.sort();
        world.assert_ids_are_facts();
        if told != wanted {
            wrong.push(format!("{} {}: told {told:#?}, wanted {wanted:#?}", life.element, life.collection));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
