//! Reading the records of a partition in order, page after page.

use std::marker::PhantomData;

use futures::stream::{Stream, TryStreamExt, try_unfold};
use serde::de::DeserializeOwned;

use crate::port::{Item, Range, Store, StoreError};
use crate::record::{RecordError, Stored};

/// A record type that is listed page by page.
pub trait Listable {
    #[doc(hidden)]
    const PREFIX: &'static str;
}

/// A place in a listing of records of type `T`, to go on from: opaque to callers.
#[derive(Debug)]
pub struct Cursor<T> {
    after: String,
    record: PhantomData<fn() -> T>,
}

impl<T> Cursor<T> {
    pub(crate) fn of(after: String) -> Self {
        Self { after, record: PhantomData }
    }

    /// The text that [`Self::parse`] reads.
    pub fn as_str(&self) -> &str {
        &self.after
    }
}

impl<T> Clone for Cursor<T> {
    fn clone(&self) -> Self {
        Self::of(self.after.clone())
    }
}

impl<T> PartialEq for Cursor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.after == other.after
    }
}

impl<T> Eq for Cursor<T> {}

impl<T: Listable> Cursor<T> {
    /// A cursor from its text. None: it is not one of a listing of this type.
    pub fn parse(text: &str) -> Option<Self> {
        text.starts_with(T::PREFIX).then(|| Self::of(text.to_owned()))
    }
}

/// One page of a listing that shows entries `E` of records `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<E, T = E> {
    /// In the listing's order.
    pub entries: Vec<E>,
    /// Start of the next page. None: there is none.
    pub next: Option<Cursor<T>>,
}

/// The records of type `T` in a stretch of one partition.
#[derive(Debug, Clone)]
pub struct Section<T> {
    pk: String,
    range: Range,
    record: PhantomData<fn() -> T>,
}

impl<T> Section<T> {
    pub(crate) fn of(pk: impl Into<String>, range: Range) -> Self {
        Self { pk: pk.into(), range, record: PhantomData }
    }

    /// The same, last record first.
    pub fn descending(self) -> Self {
        Self { range: self.range.descending(), ..self }
    }

    /// The same, at most `limit` records a page.
    pub fn limit(self, limit: usize) -> Self {
        Self { range: self.range.limit(limit), ..self }
    }

    /// Every page of items from `after` on, each as one call of the store brings it.
    pub fn items<'a>(
        self,
        store: &'a dyn Store,
        after: Option<&Cursor<T>>,
    ) -> impl Stream<Item = Result<Vec<Item>, StoreError>> + Send + 'a
    where
        T: 'a,
    {
        let after = after.map(|cursor| cursor.after.clone());
        try_unfold(Some((self, after)), move |state| async move {
            let Some((section, after)) = state else { return Ok(None) };
            let page = store.query(&section.pk, &section.range, after.as_deref()).await?;
            let next = page.next.map(|next| (section, Some(next)));
            Ok(Some((page.items, next)))
        })
    }
}

impl<T: DeserializeOwned + Send> Section<T> {
    /// Every page of records, each as one call of the store brings it; a page may be empty.
    pub fn pages<'a>(self, store: &'a dyn Store) -> impl Stream<Item = Result<Vec<Stored<T>>, RecordError>> + Send + 'a
    where
        T: 'a,
    {
        self.pages_after(store, None)
    }

    /// The same, from a cursor on.
    pub fn pages_after<'a>(
        self,
        store: &'a dyn Store,
        after: Option<&Cursor<T>>,
    ) -> impl Stream<Item = Result<Vec<Stored<T>>, RecordError>> + Send + 'a
    where
        T: 'a,
    {
        self.items(store, after)
            .map_err(RecordError::from)
            .and_then(async |items| Ok(items.iter().map(Stored::read).collect::<Result<Vec<_>, _>>()?))
    }

    /// The first page alone.
    pub async fn first_page(&self, store: &dyn Store) -> Result<Vec<Stored<T>>, RecordError> {
        let page = store.query(&self.pk, &self.range, None).await?;
        Ok(page.items.iter().map(Stored::read).collect::<Result<_, _>>()?)
    }

    /// All records at once, of a section that is known to be small.
    pub async fn all(self, store: &dyn Store) -> Result<Vec<Stored<T>>, RecordError> {
        self.pages(store).try_concat().await
    }
}
