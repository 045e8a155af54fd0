//! The rust-libp2p side of the interop tests: a peer that does what it is told.
//!
//! Orders come in as JSON lines on stdin, `{"id": 1, "do": "dial", "addr": …}`; each is answered on stdout by
//! `{"id": 1, "ok": …}` or `{"id": 1, "error": …}`. What happens by itself is told as `{"event": …}`.
//! The peer leaves when stdin ends.

mod payload;
mod streams;

use std::{error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, gossipsub, identify, noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use payload::Payload;
use streams::{StreamOrder, Streams};

pub type Outcome = Result<Value, Box<dyn Error + Send + Sync>>;

const HEARTBEAT: Duration = Duration::from_millis(200);
const PING_EVERY: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(3600);
const GOSSIP_BYTES: usize = 1 << 20;

#[derive(NetworkBehaviour)]
struct Behaviour {
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
    streams: libp2p_stream::Behaviour,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    #[serde(flatten)]
    order: Order,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Order {
    Swarm(SwarmOrder),
    Stream(StreamOrder),
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum SwarmOrder {
    Dial { addr: Multiaddr },
    Disconnect { peer: String },
    Subscribe { topic: String },
    Publish { topic: String, payload: Payload },
    Mesh { topic: String },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut swarm = new_swarm()?;
    let streams = Streams::new(swarm.behaviour().streams.new_control());
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => obey(&mut swarm, &streams, &line)?,
                None => return Ok(()),
            },
            event = swarm.select_next_some() => tell(event, *swarm.local_peer_id()),
        }
    }
}

fn new_swarm() -> Result<Swarm<Behaviour>, Box<dyn Error>> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_behaviour(|key| {
            let gossip = gossipsub::ConfigBuilder::default()
                .heartbeat_interval(HEARTBEAT)
                .max_transmit_size(GOSSIP_BYTES)
                .validation_mode(gossipsub::ValidationMode::Strict)
                .build()?;
            let author = gossipsub::MessageAuthenticity::Signed(key.clone());
            let about = identify::Config::new("/interop/1".into(), key.public());
            Ok(Behaviour {
                ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY)),
                identify: identify::Behaviour::new(about),
                gossip: gossipsub::Behaviour::new(author, gossip)?,
                streams: libp2p_stream::Behaviour::new(),
            })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    Ok(swarm)
}

/// Carries an order out. Those about streams may wait, and answer from a task of their own.
fn obey(swarm: &mut Swarm<Behaviour>, streams: &Streams, line: &str) -> Result<(), Box<dyn Error>> {
    let Line { id, order } = serde_json::from_str(line)?;
    match order {
        Order::Swarm(order) => answer(id, obey_now(swarm, order)),
        Order::Stream(order) => {
            let streams = streams.clone();
            tokio::spawn(async move { answer(id, streams.obey(order).await) });
        }
    }
    Ok(())
}

fn obey_now(swarm: &mut Swarm<Behaviour>, order: SwarmOrder) -> Outcome {
    match order {
        SwarmOrder::Dial { addr } => swarm.dial(addr)?,
        SwarmOrder::Disconnect { peer } => swarm
            .disconnect_peer_id(peer.parse::<PeerId>()?)
            .map_err(|()| "no connection to that peer")?,
        SwarmOrder::Subscribe { topic } => {
            swarm
                .behaviour_mut()
                .gossip
                .subscribe(&gossipsub::IdentTopic::new(topic))?;
        }
        SwarmOrder::Publish { topic, payload } => {
            let topic = gossipsub::IdentTopic::new(topic);
            swarm
                .behaviour_mut()
                .gossip
                .publish(topic, payload.bytes())?;
        }
        SwarmOrder::Mesh { topic } => {
            let topic = gossipsub::IdentTopic::new(topic).hash();
            let peers = swarm
                .behaviour()
                .gossip
                .mesh_peers(&topic)
                .map(PeerId::to_string);
            return Ok(json!(peers.collect::<Vec<_>>()));
        }
    }
    Ok(Value::Null)
}

fn answer(id: u64, outcome: Outcome) {
    match outcome {
        Ok(value) => say(json!({"id": id, "ok": value})),
        Err(error) => say(json!({"id": id, "error": error.to_string()})),
    }
}

/// One line on stdout; the macro takes the lock, so lines never mix.
pub fn say(value: Value) {
    println!("{value}");
}

fn tell(event: SwarmEvent<BehaviourEvent>, own: PeerId) {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => {
            say(json!({"event": "listening", "addr": format!("{address}/p2p/{own}")}));
        }
        SwarmEvent::ConnectionEstablished {
            peer_id, endpoint, ..
        } => say(json!({
            "event": "connected", "peer": peer_id.to_string(), "dialled": endpoint.is_dialer(),
        })),
        SwarmEvent::ConnectionClosed { peer_id, cause, .. } => say(json!({
            "event": "closed", "peer": peer_id.to_string(), "cause": cause.map(|error| error.to_string()),
        })),
        SwarmEvent::OutgoingConnectionError { error, .. } => {
            say(json!({"event": "dial failed", "error": error.to_string()}));
        }
        SwarmEvent::IncomingConnectionError { error, .. } => {
            say(json!({"event": "accept failed", "error": error.to_string()}));
        }
        SwarmEvent::Behaviour(event) => tell_behaviour(event),
        _ => {}
    }
}

fn tell_behaviour(event: BehaviourEvent) {
    match event {
        BehaviourEvent::Ping(ping::Event { peer, result, .. }) => say(json!({
            "event": "ping", "peer": peer.to_string(),
            "error": result.err().map(|error| error.to_string()),
        })),
        BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
            let protocols: Vec<_> = info.protocols.iter().map(|name| name.to_string()).collect();
            say(json!({
                "event": "identified", "peer": peer_id.to_string(), "agent": info.agent_version,
                "protocols": protocols, "observed": info.observed_addr.to_string(),
            }));
        }
        BehaviourEvent::Identify(identify::Event::Error { error, .. }) => {
            say(json!({"event": "identify failed", "error": error.to_string()}));
        }
        BehaviourEvent::Gossip(gossipsub::Event::Subscribed { peer_id, topic }) => say(json!({
            "event": "subscribed", "peer": peer_id.to_string(), "topic": topic.to_string(),
        })),
        BehaviourEvent::Gossip(gossipsub::Event::Message {
            propagation_source,
            message,
            ..
        }) => {
            let origin = message.source.map(|peer| peer.to_string());
            say(json!({
                "event": "message", "topic": message.topic.to_string(), "origin": origin,
                "forwarder": propagation_source.to_string(), "content": payload::describe(&message.data),
            }));
        }
        _ => {}
    }
}
