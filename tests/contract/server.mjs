// The OFREP provider for servers: one request per evaluation.
import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

const [baseUrl, key] = process.argv.slice(2);
await OpenFeature.setProviderAndWait(
  new OFREPProvider({ baseUrl, headers: [["Authorization", `Bearer ${key}`]] }),
);
const client = OpenFeature.getClient();
const ada = { targetingKey: "ada" };
const told = {
  shown: await client.getBooleanDetails("weilidai", false, ada),
  hidden: await client.getBooleanDetails("weilidai", true, { targetingKey: "eve" }),
  rate: await client.getNumberDetails("rate", 1, ada),
  unknown: await client.getBooleanDetails("nope", true, ada),
  nobody: await client.getBooleanDetails("weilidai", true, {}),
  mistyped: await client.getBooleanDetails("weilidai", true, { ...ada, region: 1 }),
};
console.log(JSON.stringify(told));
await OpenFeature.close();
