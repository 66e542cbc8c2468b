//! The form in which a message goes to a host: as it is, or made 7-bit where the host takes no other; its
//! size, and its signatures, which cover that form.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use relay_message::dkim::{BodyHash, HashedBody};
use relay_message::header;
use relay_message::seven_bit::{CannotConvert, Converter, Plan, Scan};
use relay_queue::StoreError;
use relay_smtp::client::Session;
use relay_smtp::envelope::{BodyType, Utf8};
use relay_smtp::extension::Offered;

use crate::job::Job;
use crate::sign::Asked;
use crate::signed::Form;
use crate::world::Settings;

/// What is to be known before the message is sent.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// DKIM-Signature fields, to go before it.
    pub signatures: Bytes,
    /// Bytes without stuffing and final dot.
    pub size: u64,
    pub body_type: BodyType,
    pub utf8: Utf8,
    /// How it is made 7-bit while it is sent; None: it goes as it is.
    pub convert: Option<Arc<Plan>>,
}

impl Prepared {
    fn sign(&mut self, signatures: Bytes) {
        self.size += signatures.len() as u64;
        self.signatures = signatures;
    }
}

/// The forms of one message, each made and signed once, when the first host needs it.
pub(crate) struct Forms {
    as_it_is: AsItIs,
    seven_bit: Option<Result<Prepared, CannotConvert>>,
    now: Timestamp,
}

/// The message as it was accepted.
enum AsItIs {
    /// Nobody has asked for it; with what there is to sign.
    Read(Prepared, Option<HashedBody>),
    Signed(Prepared),
}

impl AsItIs {
    fn prepared(&self) -> &Prepared {
        match self {
            AsItIs::Read(prepared, _) | AsItIs::Signed(prepared) => prepared,
        }
    }
}

impl Forms {
    /// Reads the message through, whether it is whole and what its bytes are. Err: it cannot be sent.
    pub async fn new(job: &Job, settings: &Settings, now: Timestamp) -> Result<Forms, StoreError> {
        Ok(Forms {
            as_it_is: read(job, settings, now).await?,
            seven_bit: None,
            now,
        })
    }

    /// The form for the host of this session. The inner Err: there is none.
    pub async fn fitting(
        &mut self,
        job: &Job,
        settings: &Settings,
        session: &Session,
    ) -> Result<Result<&Prepared, CannotConvert>, StoreError> {
        let offered = session.extensions().eight_bit_mime;
        match (self.as_it_is.prepared().body_type, offered) {
            (BodyType::SevenBit, _) | (BodyType::EightBitMime, Offered::Yes) => {
                return Ok(Ok(self.as_it_is(job, settings).await));
            }
            (BodyType::EightBitMime, Offered::No) => {}
        }
        let form = match self.seven_bit.take() {
            Some(form) => form,
            None => self.seven_bit(job, settings).await?,
        };
        let form = self.seven_bit.insert(form);
        Ok(form.as_ref().map_err(|cannot| *cannot))
    }

    async fn as_it_is(&mut self, job: &Job, settings: &Settings) -> &Prepared {
        if let AsItIs::Read(prepared, hash) = &mut self.as_it_is {
            let mut signed = prepared.clone();
            if let Some(body_hash) = hash.take() {
                let asked = Asked {
                    id: job.message.id,
                    form: Form::AsItIs,
                    keys: settings.signers.keys(&job.head),
                    head: job.head.clone(),
                    body_hash,
                };
                signed.sign(settings.signers.sign(asked, self.now).await);
            }
            self.as_it_is = AsItIs::Signed(signed);
        }
        self.as_it_is.prepared()
    }

    async fn seven_bit(
        &mut self,
        job: &Job,
        settings: &Settings,
    ) -> Result<Result<Prepared, CannotConvert>, StoreError> {
        let mut scan = Scan::default();
        let mut pieces = job.body.pieces();
        while let Some(piece) = pieces.next().await? {
            scan.feed(&piece);
        }
        let plan = match scan.end() {
            // Only header fields have 8-bit bytes: these go as they are, nobody can do better.
            Ok(plan) if plan.keeps_all() => {
                return Ok(Ok(self.as_it_is(job, settings).await.clone()));
            }
            Ok(plan) => plan,
            Err(cannot) => return Ok(Err(cannot)),
        };
        let (id, form) = (job.message.id, Form::SevenBit);
        let known = settings.signers.known(id, form, self.now);
        let keys = settings.signers.keys(&job.head);
        let mut read = Reading::new(keys.is_empty() || known.is_some());
        let mut converter = Converter::new(Arc::clone(&plan));
        let mut pieces = job.body.pieces();
        while let Some(piece) = pieces.next().await? {
            read.feed(&converter.feed(&piece));
        }
        read.feed(&converter.end());
        let (head, hash, bytes) = read.end();
        let mut prepared = Prepared {
            signatures: Bytes::new(),
            size: bytes,
            body_type: BodyType::SevenBit,
            utf8: self.as_it_is.prepared().utf8,
            convert: Some(plan),
        };
        match (known, hash) {
            (Some(known), _) => prepared.sign(known),
            (None, Some(hash)) => {
                let asked = Asked {
                    id,
                    form,
                    keys,
                    head,
                    body_hash: hash.end(),
                };
                prepared.sign(settings.signers.sign(asked, self.now).await);
            }
            (None, None) => {}
        }
        Ok(Ok(prepared))
    }
}

async fn read(job: &Job, settings: &Settings, now: Timestamp) -> Result<AsItIs, StoreError> {
    let known = settings.signers.known(job.message.id, Form::AsItIs, now);
    let unsigned = known.is_some() || settings.signers.keys(&job.head).is_empty();
    let mut hash = (!unsigned).then(BodyHash::default);
    let mut body_type = BodyType::SevenBit;
    let mut of_head = job.head.len();
    let mut pieces = job.body.pieces();
    while let Some(piece) = pieces.next().await? {
        if !piece.is_ascii() {
            body_type = BodyType::EightBitMime;
        }
        let behind_head = piece.get(of_head..).unwrap_or_default();
        of_head = of_head.saturating_sub(piece.len());
        hash.iter_mut().for_each(|hash| hash.feed(behind_head));
    }
    let needs_utf8 = job.message.envelope.utf8 == Utf8::Required && !job.head.is_ascii();
    let mut prepared = Prepared {
        signatures: Bytes::new(),
        size: job.body.len(),
        body_type,
        utf8: match needs_utf8 {
            true => Utf8::Required,
            false => Utf8::NotNeeded,
        },
        convert: None,
    };
    if let Some(known) = known {
        prepared.sign(known);
        return Ok(AsItIs::Signed(prepared));
    }
    Ok(AsItIs::Read(prepared, hash.map(BodyHash::end)))
}

/// A message that comes in pieces, cut into header and body.
struct Reading {
    head: BytesMut,
    at: At,
    /// None: nobody signs.
    hash: Option<BodyHash>,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Head,
    Body,
}

impl Reading {
    fn new(unsigned: bool) -> Reading {
        Reading {
            head: BytesMut::new(),
            at: At::Head,
            hash: (!unsigned).then(BodyHash::default),
            bytes: 0,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        match self.at {
            At::Head => {
                self.head.extend_from_slice(piece);
                if let Some(end) = header::end_within(&self.head) {
                    self.cut(end.body);
                }
            }
            At::Body => self.hash.iter_mut().for_each(|hash| hash.feed(piece)),
        }
    }

    fn cut(&mut self, at: usize) {
        let body = self.head.split_off(at.min(self.head.len()));
        self.at = At::Body;
        self.hash.iter_mut().for_each(|hash| hash.feed(&body));
    }

    fn end(mut self) -> (Bytes, Option<BodyHash>, u64) {
        if self.at == At::Head {
            self.cut(header::end(&self.head).body);
        }
        (self.head.freeze(), self.hash, self.bytes)
    }
}
