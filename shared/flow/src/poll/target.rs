//! The resource that a poll reads: its vendor session, its plan and its configuration.

use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::ResourceConfiguration;
use domain::index::hash_of;
use domain::problem::Warning;
use elements::listing::Cursor;
use elements::plan::Plan;
use store::records::instance::InstanceRecord;
use store::records::resource::{ResourceRecord, Shape};
use store::records::tokens::TokensRecord;

use super::error::PrepareError;
use super::request::PollRequest;
use crate::service::FlowError;
use crate::vendor::secrets;
use crate::vendor::tokens;
use crate::vendor::{Purpose, Session, VendorError};

/// A resource that can be listed.
pub(super) struct Target<'a> {
    pub(super) instance: &'a InstanceRecord,
    pub(super) session: Session<'a>,
    pub(super) configured: ResourceConfiguration,
    pub(super) plan: Plan,
}

impl<'a> Target<'a> {
    /// Opens the credentials and makes the plan. The second value says what was read differently from how the
    /// configuration has it.
    pub(super) async fn resolve(
        request: &PollRequest<'a>,
        instance: &'a InstanceRecord,
        tokens: Option<&TokensRecord>,
    ) -> Result<(Self, Vec<Warning>), PrepareError> {
        let PollRequest { service, job, .. } = *request;
        let gone = || VendorError::NoElement(instance.element.clone());
        let element = service.catalog.get(&instance.element).cloned().ok_or_else(gone)?;
        let (connection, configuration) = secrets::connection(service, &element, instance).await?;
        let configured: ResourceConfiguration = serde_json::from_str(instance.resources[&job.resource].get())
            .map_err(|_| FlowError::Damaged("the configuration of a resource"))?;
        let (plan, warnings) = Plan::resolve(&element, &job.resource, &configured, &configuration)?;
        let tokens = match tokens {
            Some(record) => Some(tokens::open(service, instance.id, record).await?),
            None => None,
        };
        let session = Session::new(service, Purpose::Poll, element, connection, tokens, Some(instance.id));
        Ok((Self { instance, session, configured, plan }, warnings))
    }

    /// The instant from which the next pass reads: the cursor less the overlap. Records in between are known and dropped.
    pub(super) fn lower_bound(&self, state: &ResourceRecord, cursor: &Cursor) -> Option<DateTime<Utc>> {
        let Cursor::Watermark(watermark) = cursor else { return None };
        let floor = self.plan.overlap().to_std().unwrap_or_default();
        let overlap = state.overlap(floor);
        Some(TimeDelta::from_std(overlap).map_or(*watermark, |overlap| *watermark - overlap))
    }

    /// The rules by which records are recognized as the resource is configured now.
    pub(super) fn shape(&self) -> Shape {
        let (resource, configured) = (self.plan.resource(), &self.configured);
        let hash = |text: String| (hash_of(&text) >> 32) as u32;
        Shape {
            ids: hash(format!("{:?} {:?} {:?}", resource.records.id, resource.records.id_derive, configured.id_field)),
            versions: hash(format!("{:?} {:?} {:?}", resource.fingerprint, resource.hydrate, configured.updated)),
        }
    }
}
