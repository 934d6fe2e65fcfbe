{
  "targets": [
    {
      "target_name": "patronus_native",
      "sources": [],
      "type": "none"
    }
  ]
}
