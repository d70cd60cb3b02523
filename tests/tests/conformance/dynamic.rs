//! Calls of any method with messages that only its descriptor describes.

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use sammati_tests::caller::Wire;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use crate::contract::Rpc;

/// Writes any message, reads the one described.
struct Described(MessageDescriptor);

impl Codec for Described {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Described {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Described {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Calls `rpc`; of a stream the first message is the answer.
pub(crate) async fn call(wire: Wire, rpc: &Rpc, message: DynamicMessage) -> Result<DynamicMessage, Status> {
    let mut client = Grpc::new(wire);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(format!("not connected: {error}")))?;
    let path = PathAndQuery::from_maybe_shared(rpc.access.path.clone()).expect("a method's path");
    let codec = Described(rpc.method.output());
    let request = Request::new(message);
    if !rpc.method.is_server_streaming() {
        return Ok(client.unary(request, path, codec).await?.into_inner());
    }
    let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
    stream
        .message()
        .await?
        .ok_or_else(|| Status::unavailable("the stream ended at once"))
}
