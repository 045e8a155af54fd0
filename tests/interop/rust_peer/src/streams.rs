//! The streams: opened, accepted, written, read, ended and reset one step at a time, as the test says.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use futures::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt, TryFutureExt,
    future::try_join_all,
};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::Control;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Outcome,
    payload::{Payload, describe, noise},
    say,
};

const READ_BYTES: usize = 1 << 18;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum StreamOrder {
    /// Announce each new stream of a protocol and leave it to the test.
    Accept {
        protocol: String,
    },
    /// Send back what comes on each new stream of a protocol.
    Echo {
        protocol: String,
    },
    /// Open many streams at once to a peer that echoes, and compare.
    Burst {
        peer: String,
        protocol: String,
        streams: u64,
        bytes: usize,
    },
    Open {
        peer: String,
        protocol: String,
    },
    /// Ends when all bytes are with the muxer.
    Write {
        stream: u64,
        payload: Payload,
    },
    /// Read `count` bytes, or to the end of the stream.
    Read {
        stream: u64,
        count: usize,
    },
    /// Write `payload` and read `count` bytes, both at once. In one task: yamux 0.13 keeps one waker for both
    /// halves of a stream, and two tasks would lose each other's.
    Exchange {
        stream: u64,
        payload: Payload,
        count: usize,
    },
    /// End our side; reading goes on.
    Finish {
        stream: u64,
    },
    /// Let go of a stream: what is not finished is reset.
    Drop {
        stream: u64,
    },
}

type Shared = Arc<tokio::sync::Mutex<Stream>>;

#[derive(Default)]
struct Table {
    last: u64,
    open: HashMap<u64, Shared>,
}

#[derive(Clone)]
pub struct Streams {
    control: Control,
    table: Arc<Mutex<Table>>,
}

impl Streams {
    pub fn new(control: Control) -> Self {
        Self {
            control,
            table: Arc::default(),
        }
    }

    pub async fn obey(mut self, order: StreamOrder) -> Outcome {
        match order {
            StreamOrder::Accept { protocol } => self.accept(protocol),
            StreamOrder::Echo { protocol } => self.echo(protocol),
            StreamOrder::Burst {
                peer,
                protocol,
                streams,
                bytes,
            } => {
                let (peer, protocol) = (peer.parse()?, StreamProtocol::try_from_owned(protocol)?);
                let bursts = (0..streams).map(|seed| {
                    echoed(
                        self.control.clone(),
                        peer,
                        protocol.clone(),
                        noise(bytes, seed),
                    )
                });
                Ok(json!(try_join_all(bursts).await?.len()))
            }
            StreamOrder::Open { peer, protocol } => {
                let protocol = StreamProtocol::try_from_owned(protocol)?;
                let stream = self.control.open_stream(peer.parse()?, protocol).await?;
                Ok(json!(self.keep(stream)))
            }
            StreamOrder::Write { stream, payload } => {
                let bytes = payload.bytes();
                send(&mut *self.get(stream)?.lock().await, &bytes).await?;
                Ok(describe(&bytes))
            }
            StreamOrder::Read { stream, count } => {
                Ok(take(&mut *self.get(stream)?.lock().await, count).await)
            }
            StreamOrder::Exchange {
                stream,
                payload,
                count,
            } => {
                let bytes = payload.bytes();
                let shared = self.get(stream)?;
                let mut stream = shared.lock().await;
                let (mut reader, mut writer) = (&mut *stream).split();
                let (sent, got) =
                    futures::join!(send(&mut writer, &bytes), take(&mut reader, count));
                sent?;
                Ok(json!({"sent": describe(&bytes), "got": got}))
            }
            StreamOrder::Finish { stream } => {
                self.get(stream)?.lock().await.close().await.map_err(told)?;
                Ok(Value::Null)
            }
            StreamOrder::Drop { stream } => {
                self.table
                    .lock()
                    .unwrap()
                    .open
                    .remove(&stream)
                    .ok_or("no such stream")?;
                Ok(Value::Null)
            }
        }
    }

    fn accept(&mut self, protocol: String) -> Outcome {
        let mut incoming = self
            .control
            .accept(StreamProtocol::try_from_owned(protocol.clone())?)?;
        let streams = self.clone();
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                let number = streams.keep(stream);
                say(json!({
                    "event": "stream", "stream": number, "protocol": protocol, "peer": peer.to_string(),
                }));
            }
        });
        Ok(Value::Null)
    }

    fn echo(&mut self, protocol: String) -> Outcome {
        let mut incoming = self
            .control
            .accept(StreamProtocol::try_from_owned(protocol)?)?;
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(async move {
                    let (reader, mut writer) = stream.split();
                    // A stream that fails is dropped, and so reset: the other side sees that.
                    if futures::io::copy(reader, &mut writer).await.is_ok() {
                        let _ = writer.close().await;
                    }
                });
            }
        });
        Ok(Value::Null)
    }

    fn keep(&self, stream: Stream) -> u64 {
        let mut table = self.table.lock().unwrap();
        table.last += 1;
        let number = table.last;
        table
            .open
            .insert(number, Arc::new(tokio::sync::Mutex::new(stream)));
        number
    }

    fn get(&self, stream: u64) -> Result<Shared, &'static str> {
        self.table
            .lock()
            .unwrap()
            .open
            .get(&stream)
            .cloned()
            .ok_or("no such stream")
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), String> {
    writer.write_all(bytes).await.map_err(told)?;
    writer.flush().await.map_err(told)
}

/// Reads `count` bytes, or to the end of the stream, and tells which end that was.
async fn take(reader: &mut (impl AsyncRead + Unpin), count: usize) -> Value {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut end = Value::Null;
    while bytes.len() < count {
        let room = READ_BYTES.min(count - bytes.len());
        match reader.read(&mut buffer[..room]).await {
            Ok(0) => {
                end = json!("eof");
                break;
            }
            Ok(got) => bytes.extend_from_slice(&buffer[..got]),
            Err(error) => {
                end = json!(told(error));
                break;
            }
        }
    }
    json!({"content": describe(&bytes), "end": end})
}

/// Sends `bytes` on a new stream and takes as many back, both at once.
async fn echoed(
    mut control: Control,
    peer: PeerId,
    protocol: StreamProtocol,
    bytes: Vec<u8>,
) -> Result<(), String> {
    let stream = control
        .open_stream(peer, protocol)
        .await
        .map_err(|error| error.to_string())?;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(&bytes).await?;
        writer.close().await
    };
    let mut back = Vec::new();
    let read = reader.read_to_end(&mut back);
    futures::try_join!(write, read.map_ok(drop)).map_err(told)?;
    if back == bytes {
        Ok(())
    } else {
        Err("the echo is not what was sent".into())
    }
}

/// The kind of an error of input or output, which is what a test asks for.
fn told(error: io::Error) -> String {
    format!("{:?}", error.kind())
}
