// Plays an export as nn~ and nn.ar do: loaded by libtorch, block after block, each in a new thread, in inference mode.
//
// live MODEL.ts METHOD BLOCK COUNT RATE OUT [NAME=VALUE ...] [while NAME=VALUE ...]
//
// Gives the method COUNT blocks of BLOCK zeros. Writes what comes of each, float32 [channels, values], to OUT, and what it
// took as JSON to stdout. Attributes are set before the first block, or while it is computed. benchmarks/live.py does the
// same in Python.

#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace {

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

// Bytes of this process that are in memory.
long resident() {
  std::ifstream file("/proc/self/statm");
  long all = 0, pages = 0;
  file >> all >> pages;
  return pages * 4096;
}

// Threads of this process.
long threads() {
  namespace fs = std::filesystem;
  return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
}

// Sets an attribute, "name=value".
void set(torch::jit::Module& model, const std::string& word) {
  const std::string name = word.substr(0, word.find('=')), text = word.substr(word.find('=') + 1);
  const int64_t kind = *model.attr(name + "_params").toTensor().data_ptr<int64_t>();
  c10::IValue value;
  if (kind == 0) value = std::stol(text) != 0;
  if (kind == 1) value = static_cast<int64_t>(std::stol(text));
  if (kind == 2) value = std::stod(text);
  if (model.get_method("set_" + name)({value}).toInt() != 0) std::exit(3);
}

}  // namespace

int main(int count, char** words) {
  if (count < 7) return 2;
  const std::string name = words[2];
  const long block = std::stol(words[3]), blocks = std::stol(words[4]);
  const double rate = std::stod(words[5]);
  std::ofstream out(words[6], std::ios::binary);
  torch::jit::Module model = torch::jit::load(words[1]);
  model.eval();
  bool there = false;
  for (const c10::IValue& one : model.get_method("get_methods")({}).toList()) there |= one.toStringRef() == name;
  if (!there) return 4;
  const at::Tensor params = model.attr(name + "_params").toTensor();
  const int64_t* param = params.data_ptr<int64_t>();
  const at::Tensor input = at::zeros({1, param[0], block / param[1]});
  const at::Tensor none = at::zeros({0});
  std::vector<double> shares;
  long first = 0, most = 0;
  bool right = true;
  int word = 7;
  const auto set_some = [&](const std::string& until) {
    for (; word < count && words[word] != until; ++word) set(model, words[word]);
    ++word;
  };
  set_some("while");
  for (long number = 0; number < blocks; ++number) {
    at::Tensor found = none;
    double took = 0;
    std::thread computing([&] {
      c10::InferenceMode guard;
      const double begun = seconds(CLOCK_THREAD_CPUTIME_ID);
      found = model.get_method(name)({input}).toTensor().contiguous();
      took = seconds(CLOCK_THREAD_CPUTIME_ID) - begun;
      most = std::max(most, threads() - 1);  // but for the one that waits
    });
    set_some("");
    computing.join();
    shares.push_back(took * rate / block);
    right &= found.sizes() == at::IntArrayRef({1, param[2], block / param[3]});
    right &= found.isfinite().all().item<bool>();
    out.write(reinterpret_cast<const char*>(found.data_ptr<float>()), found.numel() * sizeof(float));
    if (number == blocks / 4) first = resident();
  }
  const long grown = resident() - first;
  std::sort(shares.begin(), shares.end());
  std::cout << "{\"blocks\": " << blocks << ", \"right\": " << (right ? "true" : "false") << ", \"grown_bytes\": " << grown
            << ", \"median\": " << shares[shares.size() / 2] << ", \"worst\": " << shares.back()
            << ", \"threads\": " << most << "}" << std::endl;
}
