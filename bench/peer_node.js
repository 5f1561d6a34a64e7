// The same work in Node, the usual choice for it: after Twilio's tutorial "Live transcribing phone
// calls using Twilio Media Streams and Google Speech-to-Text" (ws, @google-cloud/speech).
//
//   PORT=… SPEECH_EMULATOR_HOST=host:port BATCH_MS=20|100 node peer_node.js
//
// Beside the tutorial it has what no server with hundreds of calls does without: a client, hence
// a connection, for each 90 streams, because the 101st on a connection would wait for ever. `stop`
// ends the stream instead of destroying it, so that the last final comes.
"use strict";

const http = require("http");
const WebSocket = require("ws");
const grpc = require("@grpc/grpc-js");
const speech = require("@google-cloud/speech");

const STREAMS_PER_CLIENT = 90;
const FRAMES_PER_MESSAGE = Number(process.env.BATCH_MS || 20) / 20;
const [apiEndpoint, port] = process.env.SPEECH_EMULATOR_HOST.split(":");

const clients = [];

function leaseClient() {
  let client = clients.find((one) => one.streams < STREAMS_PER_CLIENT);
  if (!client) {
    client = new speech.SpeechClient({
      apiEndpoint,
      port: Number(port),
      sslCreds: grpc.credentials.createInsecure(),
      "grpc.grpc.use_local_subchannel_pool": 1, // or all clients share one connection
    });
    client.streams = 0;
    clients.push(client);
  }
  client.streams += 1;
  return client;
}

const request = {
  config: { encoding: "MULAW", sampleRateHertz: 8000, languageCode: "iw-IL" },
  interimResults: true,
};

function openStream(call) {
  const client = leaseClient();
  return client
    .streamingRecognize(request)
    .on("error", (error) => console.error(call, error.message))
    .on("data", (data) => {
      const [result] = data.results;
      if (result) {
        console.log(call, result.isFinal ? "final" : "interim", result.alternatives[0].transcript);
      }
    })
    .on("close", () => (client.streams -= 1));
}

const server = http.createServer((req, res) => {
  res.writeHead(req.url === "/healthz" ? 200 : 404, { "Content-Type": "application/json" });
  res.end('{"status":"alive"}');
});

new WebSocket.Server({ server }).on("connection", (ws) => {
  let stream = null;
  let waiting = [];

  function flush() {
    if (waiting.length && stream) stream.write(Buffer.concat(waiting));
    waiting = [];
  }

  ws.on("message", (message) => {
    const msg = JSON.parse(message);
    switch (msg.event) {
      case "start":
        stream = openStream(msg.start.callSid);
        break;
      case "media":
        if (FRAMES_PER_MESSAGE === 1) {
          stream.write(msg.media.payload); // as the tutorial does: base64 is decoded further on
        } else {
          waiting.push(Buffer.from(msg.media.payload, "base64"));
          if (waiting.length === FRAMES_PER_MESSAGE) flush();
        }
        break;
      case "stop":
        flush();
        stream.end();
        break;
    }
  });
  ws.on("close", () => stream && stream.end());
});

server.listen(Number(process.env.PORT), "127.0.0.1");
