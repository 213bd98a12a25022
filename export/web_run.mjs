// Runs the cases of a folder in onnxruntime-web (WebAssembly) under Node.
//
//   node web_run.mjs PACKAGES WORK
//
// PACKAGES holds node_modules with onnxruntime-web. WORK holds cases.json and the files that it names:
// [{graph, output, inputs: {name: {file, type, dims}}, result}]. For each case the output's values are
// written to the file `result`, float32 in the machine's byte order, and answer.json gets its dims. On an
// error answer.json holds the graph and the message instead.

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const [packages, work] = process.argv.slice(2);
const ort = createRequire(join(packages, "package.json"))("onnxruntime-web");

// One thread: the order of additions, and so the result, does not depend on the machine.
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

const arrays = { int64: BigInt64Array, uint8: Uint8Array, float32: Float32Array };

async function tensor({ file, type, dims }) {
  const { buffer, byteOffset, byteLength } = await readFile(join(work, file));
  return new ort.Tensor(type, new arrays[type](buffer.slice(byteOffset, byteOffset + byteLength)), dims);
}

async function answer() {
  const sessions = {};
  const dims = [];
  for (const { graph, output, inputs, result } of JSON.parse(await readFile(join(work, "cases.json"), "utf8"))) {
    try {
      const content = await readFile(join(work, graph));
      sessions[graph] ??= await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
      const feeds = {};
      for (const [name, input] of Object.entries(inputs)) feeds[name] = await tensor(input);
      const { [output]: value } = await sessions[graph].run(feeds);
      dims.push(value.dims);
      await writeFile(join(work, result), value.data);
    } catch (error) {
      return { graph, error: String(error?.message ?? error) };
    }
  }
  return { dims, version: ort.env.versions.web };
}

await writeFile(join(work, "answer.json"), JSON.stringify(await answer()));
