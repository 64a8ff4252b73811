// The OFREP provider for web pages: one bulk request, then news over the event stream.
// A line on standard output for each thing that happened.
import { EventSource } from "eventsource";
import { OpenFeature, ProviderEvents } from "@openfeature/web-sdk";
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";

globalThis.EventSource ??= EventSource;
const [baseUrl, key] = process.argv.slice(2);
const say = (what, more = {}) => console.log(JSON.stringify({ what, ...more }));
const client = OpenFeature.getClient();
const flags = () => ({
  weilidai: client.getBooleanDetails("weilidai", false),
  staff: client.getBooleanDetails("staff-only", false),
});

await OpenFeature.setContext({ targetingKey: "ada" });
await OpenFeature.setProviderAndWait(
  new OFREPWebProvider({ baseUrl, pollInterval: -1, headers: [["Authorization", `Bearer ${key}`]] }),
);
client.addHandler(ProviderEvents.ConfigurationChanged, () => say("changed", flags()));
say("ready", flags());
setTimeout(() => process.exit(1), 300_000);
process.stdin.on("data", () => process.exit(0));
